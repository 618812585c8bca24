"""An offline HTML page of many rows of images, which load when they come into view; a search box filters the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcli.io.files import write_text


@dataclass(frozen=True)
class GalleryImage:
    """One image of a row: its file, relative to the page, its caption, and its width divided by its height."""

    file: str
    caption: str
    ratio: float = 1.0


@dataclass(frozen=True)
class Row:
    """One row of the page. number: by which the search box finds it."""

    number: int
    heading: str
    images: Sequence[GalleryImage]


def write(page: Path, title: str, rows: Sequence[Row], facts: Mapping[str, Any], note: str = "") -> None:
    """Write the page. note: what the images show. facts: how they were made, shown folded.

    A click on an image opens its file. Without scripts all rows are shown.
    """
    from mlcli.reporting import pages

    write_text(page, pages.render("gallery.html", title=title, rows=rows, facts=facts, note=note))

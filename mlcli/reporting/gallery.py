"""An offline HTML page of many rows of images, which load when they come into view; a search box filters the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlcli.io.files import write_text
from mlcli.reporting.sections import Section


@dataclass(frozen=True)
class GalleryImage:
    """One image of a row: its file, relative to the page, its caption, and its width divided by its height.

    height: in heights of a usual image of a row; one with more lines of tiles is higher.
    """

    file: str
    caption: str
    ratio: float = 1.0
    height: float = 1.0


@dataclass(frozen=True)
class Row:
    """One row of the page. number: by which the search box finds it."""

    number: int
    heading: str
    images: Sequence[GalleryImage]


def write(
    page: Path, title: str, rows: Sequence[Row], made_by: Sequence[Section], note: str = "", command_line: str = ""
) -> None:
    """Write the page. note: what the images show. made_by: how they were made, shown folded, with the command line.

    A click on an image opens its file. Without scripts all rows are shown.
    """
    from mlcli.reporting import pages

    values = {"title": title, "rows": rows, "made_by": made_by, "note": note, "command_line": command_line}
    write_text(page, pages.render("gallery.html", **values))

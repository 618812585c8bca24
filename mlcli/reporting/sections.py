"""What a page of results is made of: sections with tables, charts and images."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Table:
    """Rows of cells with a heading for each column.

    caption: what the cells are, below the table.  title: above it.  rows_named: whether the first cell of a row is its
    heading.  strengths: for each cell (without the first of its row) how strongly it is tinted, from 0 to 1.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    caption: str = ""
    rows_named: bool = True
    strengths: Sequence[Sequence[float]] = ()
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Chart:
    """An SVG chart with its title and lines of text below it."""

    svg: str
    title: str = ""
    captions: Sequence[str] = ()
    kind: str = field(default="chart", init=False)


@dataclass(frozen=True)
class EmbeddedImage:
    """An image in the page. source: its data URL.  width: at which it is shown at most, in pixels.

    kind: an "image" of its own, or a "tile", small and one of many.
    """

    source: str
    width: int
    captions: Sequence[str] = ()
    title: str = ""
    kind: str = "image"


@dataclass(frozen=True)
class Section:
    """A heading and what is below it, after a `text` that introduces it.  beside: whether tables are side by side."""

    heading: str
    items: Sequence[Table | Chart | EmbeddedImage] = ()
    text: str = ""
    beside: bool = False


def of_values(values: Mapping[str, Any], header: tuple[str, str], title: str = "") -> Table:
    """A table with a name and a value in each row."""
    return Table(header, list(values.items()), title)


def from_file(file: Path, title: str, captions: Sequence[str] = ()) -> EmbeddedImage:
    """A PNG or GIF file as an image of the page."""
    from PIL import Image

    content = file.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        width = image.width
    return EmbeddedImage(_url(content, file.suffix[1:]), width, captions, title)


def from_image(image: "Image.Image", title: str, captions: Sequence[str] = ()) -> EmbeddedImage:
    """An image of Pillow as one of the page."""
    return EmbeddedImage(_url(_png(image)), image.width, captions, title)


def tiles(file: Path, boxes: Sequence[Sequence[int]], captions: Sequence[Sequence[str]]) -> list[EmbeddedImage]:
    """Parts of a PNG file as images of the page. boxes: (left, top, right, bottom) of each in pixels."""
    from PIL import Image

    found = []
    with Image.open(file) as image:
        for box, lines in zip(boxes, captions, strict=True):
            part = image.crop((box[0], box[1], box[2], box[3]))
            found.append(EmbeddedImage(_url(_png(part)), part.width, lines, kind="tile"))
    return found


def _png(image: "Image.Image") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def _url(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

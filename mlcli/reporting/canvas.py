"""Images made of tiles: a grid of labeled images, or a sheet of labeled rows."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from mlcli.counting import counted
from mlcli.errors import UsageError
from mlcli.imaging.decoding import decode
from mlcli.imaging.image_io import MAX_PIXELS, fit, to_bytes, to_pillow
from mlcli.imaging.memory_images import MemoryImage
from mlcli.reporting import captions

PAPER, LINE = (255, 255, 255), (200, 200, 200)
MOST_COLUMNS = 16  # tiles side by side in a row, at most: longer rows go on in the next line
SHEET_COLUMNS = 32  # the same of all strips in a row of a sheet
LABEL_WIDTH = 40  # pixels that a label has where tiles are narrower


@dataclass(frozen=True)
class GridLayout:
    """Where the n tiles (height, width) of a `grid` are. lines: of text below each tile."""

    n: int
    height: int
    width: int
    columns: int | None = None
    side: int = 56
    gap: int = 6
    apart: int = 0
    lines: int = 0
    wrap: bool = True

    @property
    def in_row(self) -> int:
        """Tiles in a row, which may take several lines."""
        return self.columns or math.ceil(math.sqrt(self.n))

    @property
    def tile(self) -> tuple[int, int]:
        """(height, width) of a tile as it is drawn, enlarged by an integer factor."""
        scale = max(1, self.side // max(self.height, self.width))
        return self.height * scale, self.width * scale

    @property
    def cell(self) -> tuple[int, int]:
        """(height, width) of a tile with its label."""
        height, width = self.tile
        width = max(width, LABEL_WIDTH) if self.lines else width
        return height + captions.line_height(width) * self.lines, width

    @property
    def wrapped(self) -> tuple[int, int]:
        """(lines of a row, tiles in each), without the first tile where it stands apart; the lines are about equal."""
        tiles, most = self.in_row - self.lead, MOST_COLUMNS - self.lead
        lines = math.ceil(tiles / most) if self.wrap and self.columns and tiles > most else 1
        return lines, math.ceil(tiles / lines)

    @property
    def lead(self) -> int:
        """1 where the first tile of a row stands apart: the other lines of the row begin under its second one."""
        return int(self.apart > 0)

    @property
    def between(self) -> int:
        """Additional pixels between rows of several lines."""
        return 3 * self.gap * (self.wrapped[0] > 1)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the grid."""
        full, rest = divmod(self.n, self.in_row)
        lines, tiles = self.wrapped
        last = max(1, math.ceil((rest - self.lead) / tiles)) if rest else 0
        height, width = self.cell
        rows = full + (rest > 0)
        return (
            (full * lines + last) * (height + self.gap) + (rows - 1) * self.between + self.gap,
            (self.lead + tiles) * (width + self.gap) + self.gap + self.apart,
        )

    def position(self, index: int) -> tuple[int, int]:
        """(x, y) of the cell of a tile."""
        row, place = divmod(index, self.in_row)
        lines, tiles = self.wrapped
        line, column = (0, 0) if place < self.lead else divmod(place - self.lead, tiles)
        column += self.lead if place >= self.lead else 0
        height, width = self.cell
        x = self.gap + column * (width + self.gap) + (self.apart if column else 0)
        return x, self.gap + (row * lines + line) * (height + self.gap) + row * self.between


def grid_boxes(
    n: int, height: int, width: int, *, side: int = 56, gap: int = 6, lines: int = 0
) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of each tile in a `grid` of n tiles (height, width) that is about square."""
    layout = GridLayout(n, height, width, side=side, gap=gap, lines=lines)
    (tile_height, tile_width), (_, cell_width) = layout.tile, layout.cell
    corners = [(x + (cell_width - tile_width) // 2, y) for x, y in map(layout.position, range(n))]
    return [(x, y, x + tile_width, y + tile_height) for x, y in corners]


def grid(
    tiles: Tensor,
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    side: int = 56,
    gap: int = 6,
    apart: int = 0,
    wrap: bool = True,
) -> Image.Image:
    """Tiles (N, 3, h, w) in [0, 1] in rows, each enlarged to about `side` pixels by an integer factor.

    labels: a short text below each tile, of one line or several, each shortened to the width of its cell. columns: the
    tiles in a row; by default the grid is about square. wrap: a row of more than MOST_COLUMNS tiles has several lines.
    apart: additional pixels between the first column and the others, under which the other lines of a row stand.
    Raises UsageError for an image that is too large to be read again.
    """
    n, _, height, width = tiles.shape
    lines = max((label.count("\n") + 1 for label in labels), default=0) if labels is not None else 0
    layout = GridLayout(n, height, width, columns, side, gap, apart, lines, wrap)
    (tile_height, tile_width), (_, cell_width) = layout.tile, layout.cell
    canvas = _blank(layout.size[1], layout.size[0], n, side)
    draw, font, line_height = ImageDraw.Draw(canvas), captions.font(cell_width), captions.line_height(cell_width)
    for index, tile in enumerate(tiles):
        x, y = layout.position(index)
        image = to_pillow(tile).resize((tile_width, tile_height), Image.Resampling.NEAREST)
        canvas.paste(image, (x + (cell_width - tile_width) // 2, y))
        for number, line in enumerate(labels[index].split("\n") if labels is not None else ()):
            top = (x + cell_width / 2, y + tile_height + 1 + line_height * number)
            draw.text(top, captions.shortened(line, cell_width), captions.INK, font, anchor="ma")
    return canvas


class Strip(NamedTuple):
    """Tiles (3, h, w) side by side with a short text below; None for a tile that is missing.

    below: a second tile below each, where there is one.
    """

    tiles: Sequence[Tensor | None]
    caption: str = ""
    below: Sequence[Tensor | None] = ()


def sheet(
    title: str,
    headings: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Strip]]],
    lengths: Sequence[int],
    *,
    side: int = 56,
    gap: int = 4,
) -> Image.Image:
    """Rows of a label and strips; the strips are in columns, each with a heading.

    lengths: the number of tiles in each column; where they are more than SHEET_COLUMNS in all, strips have several
    lines. Tiles smaller than (side, side) are centered in their cells. Where one strip has tiles below others, so have
    all.
    Raises UsageError for an image that is too large to be read again.
    """
    font, line = captions.font(side), captions.line_height(side)
    cell, margin = side + gap, 14
    cell_height = cell * (1 + any(strip.below for _, strips in rows for strip in strips))
    in_line = _in_line(lengths)
    label_width = round(max(font.getlength(label) for label, _ in rows)) + margin
    texts = [[heading, *(strips[i].caption for _, strips in rows)] for i, heading in enumerate(headings)]
    widths = [max(n * cell, round(max(map(font.getlength, column)))) for n, column in zip(in_line, texts, strict=True)]
    lefts = [label_width + sum(widths[:i]) + i * margin for i in range(len(widths))]
    width = lefts[-1] + widths[-1] + margin
    titles = captions.paragraph(title, width - margin, side)
    head = line * (len(titles) + 2)
    lines = [
        max(1, *(math.ceil(len(strip.tiles) / n) for strip, n in zip(strips, in_line, strict=True)))
        for _, strips in rows
    ]
    height = head + cell_height * sum(lines) + line * len(rows)
    canvas = _blank(width, height, len(rows) * sum(lengths), side)
    draw = ImageDraw.Draw(canvas)
    draw.text((margin // 2, 4), "\n".join(titles), captions.INK, font, spacing=line - font.size)
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, head - line * 5 // 4), heading, captions.INK, font)
    y = head
    for (label, strips), count in zip(rows, lines, strict=True):
        draw.text((label_width - margin // 2, y + count * cell_height / 2), label, captions.INK, font, anchor="rm")
        for left, n, strip in zip(lefts, in_line, strips, strict=True):
            for number, tiles in enumerate((strip.tiles, strip.below)):
                for index, tile in enumerate(tiles):
                    top = y + index // n * cell_height + number * cell
                    _place(canvas, tile, left + index % n * cell, top, side)
            end = max(1, math.ceil(len(strip.tiles) / n)) * cell_height - gap
            draw.text((left, y + end + 2), strip.caption, captions.INK, font)
        y += count * cell_height + line
    return canvas


def _in_line(lengths: Sequence[int]) -> list[int]:
    """How many tiles of each strip are side by side, so that all strips together have at most SHEET_COLUMNS."""
    lines = 1
    while sum(math.ceil(n / lines) for n in lengths) > max(SHEET_COLUMNS, len(lengths)):
        lines += 1
    return [math.ceil(n / lines) for n in lengths]


def mosaic(
    groups: Sequence[Sequence[Tensor | None]],
    side: int,
    *,
    rows: int = 1,
    gap: int = 2,
    below: Sequence[Sequence[Tensor | None]] = (),
) -> Image.Image:
    """Groups of tiles side by side, the tiles of each group in `rows` rows; without text.

    Tiles smaller than (3, side, side) are centered in their cells; the cell of None stays empty. below: a second tile
    below each tile of the groups.
    """
    cell, apart = side + gap, side // 8
    high = 2 if below else 1
    columns = [math.ceil(len(group) / rows) for group in groups if group]
    width = sum(columns) * cell + gap + (len(columns) - 1) * apart
    canvas = _blank(width, rows * high * cell + gap, high * sum(map(len, groups)), side)
    for number, layer in enumerate((groups, below)):
        left = gap
        for count, group in zip(columns, filter(None, layer), strict=False):
            for index, tile in enumerate(group):
                row, column = divmod(index, count)
                _place(canvas, tile, left + column * cell, gap + (row * high + number) * cell, side)
            left += count * cell + apart
    return canvas


def _place(canvas: Image.Image, tile: Tensor | None, x: int, y: int, side: int) -> None:
    """Draw a tile in the center of its cell, with a line around it that shows where white tiles end."""
    height, width = (side, side) if tile is None else tile.shape[1:]
    x, y = x + (side - width) // 2, y + (side - height) // 2
    ImageDraw.Draw(canvas).rectangle((x - 1, y - 1, x + width, y + height), outline=LINE)
    if tile is not None:
        canvas.paste(to_pillow(tile), (x, y))


def _blank(width: int, height: int, tiles: int, side: int) -> Image.Image:
    if width * height > MAX_PIXELS:
        raise UsageError(
            f"--size {side}: {counted(tiles, 'tile')} of it make an image of {width} x {height} pixels; take a smaller"
        )
    return Image.new("RGB", (width, height), PAPER)


def rows_layout(rows: int, columns: int, side: int, lines: int = 3) -> GridLayout:
    """The layout of the image that `rows_of_files` draws; its labels have three lines, or fewer."""
    return GridLayout(rows * columns, side, side, columns, side, apart=side // 4, lines=lines)


def rows_of_files(rows: Sequence[Sequence[tuple[Path | MemoryImage, str, str]]], side: int) -> Image.Image:
    """Image files in rows, each with its name and a note; the first image of a row is set apart from the others.

    Rows may differ in length. The cell of a file that cannot be read stays white.
    """
    columns = max(map(len, rows))
    cells = {(r, c): cell for r, row in enumerate(rows) for c, cell in enumerate(row)}
    paths = list(dict.fromkeys(path for path, _, _ in cells.values()))
    decoded = decode(paths, lambda image: to_bytes(square(image, side)))
    images = {paths[index]: image for index, image in decoded if isinstance(image, Tensor)}
    white = torch.full((3, side, side), 255, dtype=torch.uint8)
    _, width = rows_layout(1, 1, side).cell
    tiles, labels = [], []
    for cell in itertools.product(range(len(rows)), range(columns)):
        path, name, note = cells.get(cell, (None, "", ""))
        tiles.append(white if path is None else images.get(path, white))
        labels.append(f"{captions.wrapped(name, width)}\n{note}")
    return grid(torch.stack(tiles), labels, columns=columns, side=side, apart=side // 4)


def enlarged(image: Tensor, factor: int) -> Tensor:
    """(C, H, W) -> (C, H * factor, W * factor), by repeating pixels."""
    return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def square(image: Tensor, side: int) -> Tensor:
    """The central square of (C, H, W), resized to (C, side, side); a small image is enlarged by repeating pixels."""
    if 2 * min(image.shape[1:]) > side:
        return fit(image, side)
    return interpolate(fit(image, min(image.shape[1:]))[None], size=(side, side), mode="nearest-exact")[0]

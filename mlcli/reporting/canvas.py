"""Images made of tiles: a grid of labeled images, or a sheet of labeled rows."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from mlcli.counting import counted
from mlcli.errors import UsageError
from mlcli.imaging.decoding import decode
from mlcli.imaging.image_io import MAX_PIXELS, fit, to_bytes, to_pillow
from mlcli.imaging.memory_images import MemoryImage

PAPER, INK, LINE = (255, 255, 255), (70, 70, 70), (200, 200, 200)
FONT_SIZE, LINE_HEIGHT = 11, 14  # pixels


def grid_size(
    n: int,
    height: int,
    width: int,
    *,
    columns: int | None = None,
    side: int = 56,
    gap: int = 6,
    apart: int = 0,
    lines: int = 0,
) -> tuple[int, int]:
    """(height, width) of a `grid` of n tiles (height, width), with `lines` lines of text below each."""
    columns = columns or math.ceil(math.sqrt(n))
    scale = max(1, side // max(height, width))
    return (
        math.ceil(n / columns) * (height * scale + LINE_HEIGHT * lines + gap) + gap,
        columns * (width * scale + gap) + gap + apart,
    )


def grid_boxes(
    n: int, height: int, width: int, *, side: int = 56, gap: int = 6, lines: int = 0
) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of each tile in a `grid` of n tiles (height, width) that is about square."""
    columns = math.ceil(math.sqrt(n))
    scale = max(1, side // max(height, width))
    cell = width * scale + gap, height * scale + LINE_HEIGHT * lines + gap
    corners = [(gap + i % columns * cell[0], gap + i // columns * cell[1]) for i in range(n)]
    return [(x, y, x + width * scale, y + height * scale) for x, y in corners]


def grid(
    tiles: Tensor,
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    side: int = 56,
    gap: int = 6,
    apart: int = 0,
) -> Image.Image:
    """Tiles (N, 3, h, w) in [0, 1] in rows, each enlarged to about `side` pixels by an integer factor.

    labels: a short text below each tile, all with the same number of lines. columns: by default the grid is about
    square. apart: additional pixels between the first column and the others.
    Raises UsageError for an image that is too large to be read again.
    """
    n, _, height, width = tiles.shape
    columns = columns or math.ceil(math.sqrt(n))
    scale = max(1, side // max(height, width))
    font = ImageFont.load_default(FONT_SIZE)
    lines = labels[0].count("\n") + 1 if labels is not None else 0
    cell_width, cell_height = width * scale + gap, height * scale + LINE_HEIGHT * lines + gap
    size = grid_size(n, height, width, columns=columns, side=side, gap=gap, apart=apart, lines=lines)
    canvas = _blank(size[1], size[0], n, side)
    draw = ImageDraw.Draw(canvas)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = gap + column * cell_width + (apart if column else 0), gap + row * cell_height
        image = to_pillow(tile).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        canvas.paste(image, (x, y))
        if labels is not None:
            for number, line in enumerate(labels[index].split("\n")):
                top = (x + width * scale / 2, y + height * scale + 1 + LINE_HEIGHT * number)
                draw.text(top, line, INK, font, anchor="ma")
    return canvas


class Strip(NamedTuple):
    """Tiles (3, h, w) side by side with a short text below; None for a tile that is missing."""

    tiles: Sequence[Tensor | None]
    caption: str = ""


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

    lengths: the width of each column in tiles. Tiles smaller than (side, side) are centered in their cells.
    Raises UsageError for an image that is too large to be read again.
    """
    font = ImageFont.load_default(FONT_SIZE)
    cell, margin, line = side + gap, 14, LINE_HEIGHT
    label_width = round(max(font.getlength(label) for label, _ in rows)) + margin
    widths = [max(n * cell, round(font.getlength(h))) for n, h in zip(lengths, headings, strict=True)]
    lefts = [label_width + sum(widths[:i]) + i * margin for i in range(len(widths))]
    head, height = 3 * line, cell + line
    canvas = _blank(lefts[-1] + widths[-1] + margin, head + len(rows) * height, len(rows) * sum(lengths), side)
    draw = ImageDraw.Draw(canvas)
    draw.text((margin // 2, 4), title, INK, font)
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, 4 + 3 * line // 2), heading, INK, font)
    for number, (label, strips) in enumerate(rows):
        y = head + number * height
        draw.text((label_width - margin // 2, y + side / 2), label, INK, font, anchor="rm")
        for left, strip in zip(lefts, strips, strict=True):
            for index, tile in enumerate(strip.tiles):
                _place(canvas, tile, left + index * cell, y, side)
            draw.text((left, y + side), strip.caption, INK, font)
    return canvas


def mosaic(groups: Sequence[Sequence[Tensor | None]], side: int, *, rows: int = 1, gap: int = 2) -> Image.Image:
    """Groups of tiles side by side, the tiles of each group in `rows` rows; without text.

    Tiles smaller than (3, side, side) are centered in their cells; the cell of None stays empty.
    """
    cell, apart = side + gap, side // 8
    columns = [math.ceil(len(group) / rows) for group in groups if group]
    width = sum(columns) * cell + gap + (len(columns) - 1) * apart
    canvas = _blank(width, rows * cell + gap, sum(map(len, groups)), side)
    left = gap
    for count, group in zip(columns, filter(None, groups), strict=True):
        for index, tile in enumerate(group):
            row, column = divmod(index, count)
            _place(canvas, tile, left + column * cell, gap + row * cell, side)
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


def shortened(text: str, width: float) -> str:
    """A label of at most `width` pixels: where it is longer, its middle is replaced by an ellipsis."""
    font = ImageFont.load_default(FONT_SIZE)
    if font.getlength(text) <= width:
        return text
    for kept in range(min(len(text), int(width)) - 1, 0, -1):
        cut = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
        if font.getlength(cut) <= width:
            return cut
    return ""


def rows_size(rows: int, columns: int, side: int) -> tuple[int, int]:
    """(height, width) of the image that `rows_of_files` draws."""
    return grid_size(rows * columns, side, side, columns=columns, side=side, apart=side // 4, lines=2)


def rows_of_files(rows: Sequence[Sequence[tuple[Path | MemoryImage, str]]], side: int) -> Image.Image:
    """Image files in rows, each with a label; the first image of a row is set apart from the others.

    Rows may differ in length. The cell of a file that cannot be read stays white.
    """
    columns = max(map(len, rows))
    cells = {(r, c): cell for r, row in enumerate(rows) for c, cell in enumerate(row)}
    paths = list(dict.fromkeys(path for path, _ in cells.values()))
    decoded = decode(paths, lambda image: to_bytes(square(image, side)))
    images = {paths[index]: image for index, image in decoded if isinstance(image, Tensor)}
    white = torch.full((3, side, side), 255, dtype=torch.uint8)
    tiles, labels = [], []
    for cell in itertools.product(range(len(rows)), range(columns)):
        path, label = cells.get(cell, (None, "\n"))
        tiles.append(white if path is None else images.get(path, white))
        labels.append(label)
    return grid(torch.stack(tiles), labels, columns=columns, side=side, apart=side // 4)


def enlarged(image: Tensor, factor: int) -> Tensor:
    """(C, H, W) -> (C, H * factor, W * factor), by repeating pixels."""
    return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def square(image: Tensor, side: int) -> Tensor:
    """The central square of (C, H, W), resized to (C, side, side); a small image is enlarged by repeating pixels."""
    if 2 * min(image.shape[1:]) > side:
        return fit(image, side)
    return interpolate(fit(image, min(image.shape[1:]))[None], size=(side, side), mode="nearest-exact")[0]

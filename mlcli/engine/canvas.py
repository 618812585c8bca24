"""Pictures made of tiles: a grid of small images with a label each, or a sheet of labelled rows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mlcli.engine.images import MAX_PIXELS, to_pillow
from mlcli.errors import UsageError

PAPER, INK, LINE = (255, 255, 255), (70, 70, 70), (200, 200, 200)


def grid(
    tiles: Tensor,
    labels: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    side: int = 56,
    gap: int = 6,
) -> Image.Image:
    """Tiles (N, 3, h, w) in [0, 1] in rows, each enlarged to about `side` pixels with its pixels kept square.

    labels: a short text below each tile. columns: default near a square picture.
    Raises UsageError for a picture larger than could be read again.
    """
    n, _, height, width = tiles.shape
    columns = columns or math.ceil(math.sqrt(n))
    scale = max(1, side // max(height, width))
    font = ImageFont.load_default(11)
    text_height = 14 if labels is not None else 0
    cell_width, cell_height = width * scale + gap, height * scale + text_height + gap
    rows = math.ceil(n / columns)
    canvas = _blank(columns * cell_width + gap, rows * cell_height + gap, n, side)
    draw = ImageDraw.Draw(canvas)
    for index, tile in enumerate(tiles):
        x, y = gap + index % columns * cell_width, gap + index // columns * cell_height
        picture = to_pillow(tile).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        canvas.paste(picture, (x, y))
        if labels is not None:
            draw.text((x + width * scale / 2, y + height * scale + 1), labels[index], INK, font, anchor="ma")
    return canvas


class Strip(NamedTuple):
    """Tiles (3, h, w) side by side and a short text below them; None for one that could not be had."""

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
    """Rows of a label and strips, the strips in columns with a heading each.

    lengths: the room of each column in tiles. Tiles of up to (side, side) stand in the middle of their place.
    Raises UsageError for a picture larger than could be read again.
    """
    font = ImageFont.load_default(11)
    cell, margin, line = side + gap, 14, 14
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
            for place, tile in enumerate(strip.tiles):
                x = left + place * cell
                h, w = (side, side) if tile is None else tile.shape[1:]
                x, top = x + (side - w) // 2, y + (side - h) // 2
                draw.rectangle((x - 1, top - 1, x + w, top + h), outline=LINE)  # white tiles end somewhere too
                if tile is not None:
                    canvas.paste(to_pillow(tile), (x, top))
            draw.text((left, y + side), strip.caption, INK, font)
    return canvas


def _blank(width: int, height: int, tiles: int, side: int) -> Image.Image:
    if width * height > MAX_PIXELS:
        raise UsageError(
            f"--size {side}: {tiles} tiles of it make a picture of {width} x {height} pixels; take a smaller"
        )
    return Image.new("RGB", (width, height), PAPER)

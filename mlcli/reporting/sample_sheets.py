"""Sheets of samples: rows of images under titles of their columns, and pairs of images with their distances."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

from mlcli.imaging.image_io import to_pillow
from mlcli.reporting import captions
from mlcli.reporting.canvas import PAPER

SMALLEST = 96  # pixels: smaller images are enlarged to about this width, so that titles and images can be seen
GAP = 4


class Pair(NamedTuple):
    """Two images (3, h, w) in [0, 1] or uint8, the names below them, and the text below both."""

    images: tuple[Tensor, Tensor]
    names: tuple[str, str]
    caption: str


def columns(titles: Sequence[str], rows: Sequence[Sequence[Tensor]]) -> Image.Image:
    """Rows of images (1, 1 or 3, H, W) in [0, 1], one for each title.

    Small images are enlarged by an integer factor, and titles grow with the width, so that they can still be read
    where the sheet is shrunk to the width of a telephone.
    """
    tiles = [[_enlarged(each[0].float().cpu().expand(3, -1, -1)) for each in row] for row in rows]
    widths = [max(row[column].width for row in tiles) for column in range(len(titles))]
    width = sum(widths) + GAP * (len(titles) + 1)
    size = max(11, width // 42)
    while size > 8 and any(captions.font_of_size(size).getlength(t) > w for t, w in zip(titles, widths, strict=True)):
        size -= 1
    top = GAP + round(1.5 * size)
    heights = [max(tile.height for tile in row) + GAP for row in tiles]
    sheet = Image.new("RGB", (width, top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [GAP + sum(widths[:column]) + GAP * column for column in range(len(titles))]
    for left, width_of_column, title in zip(lefts, widths, titles, strict=True):
        draw.text((left + width_of_column / 2, GAP), title, captions.INK, captions.font_of_size(size), anchor="ma")
    for number, row in enumerate(tiles):
        for left, tile in zip(lefts, row, strict=True):
            sheet.paste(tile, (left, top + sum(heights[:number])))
    return sheet


def pairs(found: Sequence[Pair], *, in_row: int = 2) -> Image.Image:
    """Pairs side by side, each apart from the next, with names below the images and a caption below the pair."""
    tiles = [[_enlarged(image) for image in pair.images] for pair in found]
    side = max((tile.width for pair in tiles for tile in pair), default=SMALLEST)
    height = max((tile.height for pair in tiles for tile in pair), default=SMALLEST)
    drawn, line, apart = captions.font(side), captions.line_height(side), 6 * GAP
    cell = (2 * side + GAP + apart, height + 2 * line + apart)
    in_row = max(1, min(in_row, len(found)))
    sheet = Image.new("RGB", (in_row * cell[0], -(-len(found) // in_row) * cell[1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (pair, images) in enumerate(zip(found, tiles, strict=True)):
        left, top = number % in_row * cell[0] + apart // 2, number // in_row * cell[1] + apart // 2
        for column, (image, name) in enumerate(zip(images, pair.names, strict=True)):
            x = left + column * (side + GAP)
            sheet.paste(image, (x, top))
            draw.text(
                (x + side / 2, top + height + 2), captions.shortened(name, side), captions.INK, drawn, anchor="ma"
            )
        center = left + side + GAP / 2
        draw.text((center, top + height + 2 + line), pair.caption, captions.INK, drawn, anchor="ma")
    return sheet


def _enlarged(image: Tensor) -> Image.Image:
    """An image, enlarged by an integer factor if it is small."""
    made = to_pillow(image)
    factor = max(1, SMALLEST // made.width)
    return made.resize((made.width * factor, made.height * factor), Image.Resampling.NEAREST)

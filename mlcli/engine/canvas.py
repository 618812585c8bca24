"""Pictures made of tiles: a grid of small images with a label each."""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mlcli.engine.images import to_pillow

PAPER, INK = (255, 255, 255), (70, 70, 70)


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
    """
    n, _, height, width = tiles.shape
    columns = columns or math.ceil(math.sqrt(n))
    scale = max(1, side // max(height, width))
    font = ImageFont.load_default(11)
    text_height = 14 if labels is not None else 0
    cell_width, cell_height = width * scale + gap, height * scale + text_height + gap
    rows = math.ceil(n / columns)
    canvas = Image.new("RGB", (columns * cell_width + gap, rows * cell_height + gap), PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, tile in enumerate(torch.as_tensor(tiles)):
        x, y = gap + index % columns * cell_width, gap + index // columns * cell_height
        picture = to_pillow(tile).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        canvas.paste(picture, (x, y))
        if labels is not None:
            draw.text((x + width * scale / 2, y + height * scale + 1), labels[index], INK, font, anchor="ma")
    return canvas

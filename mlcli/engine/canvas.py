"""Pictures made of tiles: a grid of small images with a label each."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mlcli.engine.images import MAX_PIXELS, to_pillow
from mlcli.errors import UsageError

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
    Raises UsageError for a picture larger than could be read again.
    """
    n, _, height, width = tiles.shape
    columns = columns or math.ceil(math.sqrt(n))
    scale = max(1, side // max(height, width))
    font = ImageFont.load_default(11)
    text_height = 14 if labels is not None else 0
    cell_width, cell_height = width * scale + gap, height * scale + text_height + gap
    rows = math.ceil(n / columns)
    size = (columns * cell_width + gap, rows * cell_height + gap)
    if math.prod(size) > MAX_PIXELS:
        raise UsageError(
            f"--size {side}: {n} tiles of it make a picture of {size[0]} x {size[1]} pixels; take a smaller"
        )
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, tile in enumerate(tiles):
        x, y = gap + index % columns * cell_width, gap + index // columns * cell_height
        picture = to_pillow(tile).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        canvas.paste(picture, (x, y))
        if labels is not None:
            draw.text((x + width * scale / 2, y + height * scale + 1), labels[index], INK, font, anchor="ma")
    return canvas

"""A legend below an image of weights or maps: which values its colors stand for."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mlcli.reporting import captions

WIDTH, BAR, MARGIN = 320, 14, 8  # pixels: the least width of the image, and the height of the bar


def with_gray_scale(image: Image.Image, least: str, middle: str, most: str, note: str) -> Image.Image:
    """The image above a bar from black to white with these values at its ends and in the middle, and a note."""
    gray = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    return with_bar(image, gray, (least, middle, most), note)


def with_bar(image: Image.Image, colors: np.ndarray, labels: Sequence[str], note: str) -> Image.Image:
    """The image above a bar of these colors (N, 3) uint8, with three labels, and a note.

    labels: of the beginning, the middle and the end of the bar.
    """
    font, line = captions.font(), captions.line_height()
    width = max(image.width, WIDTH)
    lines = captions.paragraph(note, width - 2 * MARGIN)
    height = image.height + 2 * MARGIN + BAR + line * (1 + len(lines))
    result = Image.new("RGB", (width, height), "white")
    result.paste(image, (0, 0))
    top, length = image.height + MARGIN, WIDTH - 2 * MARGIN
    ramp = colors[np.linspace(0, len(colors) - 1, length).round().astype(int)]
    result.paste(Image.fromarray(np.tile(ramp, (BAR, 1, 1))), (MARGIN, top))
    draw = ImageDraw.Draw(result)
    draw.rectangle((MARGIN - 1, top - 1, MARGIN + length, top + BAR), outline=captions.INK)
    for x, text, anchor in zip((0, length / 2, length), labels, ("la", "ma", "ra"), strict=True):
        draw.text((MARGIN + x, top + BAR + 2), text, captions.INK, font, anchor=anchor)
    for number, text in enumerate(lines, 1):
        draw.text((MARGIN, top + BAR + 2 + number * line), text, captions.INK, font)
    return result

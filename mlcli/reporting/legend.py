"""A legend below an image of weights: which of them black, gray and white stand for."""

import numpy as np
from PIL import Image, ImageDraw

from mlcli.reporting import captions

WIDTH, BAR, MARGIN = 320, 14, 8  # pixels: the least width of the image, and the height of the bar


def with_gray_scale(image: Image.Image, least: str, middle: str, most: str, note: str) -> Image.Image:
    """The image above a bar from black to white with these values at its ends and in the middle, and a note."""
    font, line = captions.font(), captions.line_height()
    width = max(image.width, WIDTH)
    lines = captions.paragraph(note, width - 2 * MARGIN)
    height = image.height + 2 * MARGIN + BAR + line * (1 + len(lines))
    result = Image.new("RGB", (width, height), "white")
    result.paste(image, (0, 0))
    top, length = image.height + MARGIN, WIDTH - 2 * MARGIN
    ramp = np.linspace(0, 255, length).round().astype(np.uint8)
    result.paste(Image.fromarray(np.tile(ramp, (BAR, 1))).convert("RGB"), (MARGIN, top))
    draw = ImageDraw.Draw(result)
    draw.rectangle((MARGIN - 1, top - 1, MARGIN + length, top + BAR), outline=captions.INK)
    for x, text, anchor in ((0, least, "la"), (length / 2, middle, "ma"), (length, most, "ra")):
        draw.text((MARGIN + x, top + BAR + 2), text, captions.INK, font, anchor=anchor)
    for number, text in enumerate(lines, 1):
        draw.text((MARGIN, top + BAR + 2 + number * line), text, captions.INK, font)
    return result

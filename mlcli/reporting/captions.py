"""Text in images: a font as large as the tiles want it, and names in the few pixels that a tile is wide."""

from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

INK = (32, 32, 32)  # on white, a contrast of 16 to 1
SMALLEST = 12  # pixels of a font
TILES = 12  # a tile is so many times as high as its font, which can then be read where large tiles are scaled down
SEPARATORS = "_-/. "  # after which a name is broken into lines


@cache
def font_of_size(size: int) -> FreeTypeFont:
    """DejaVu Sans, the font of the charts, which matplotlib brings. Pillow's own has ASCII alone, and no arrows."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def font(side: float = 0) -> FreeTypeFont:
    """The font of the text below a tile of this side in pixels. Other letters than Latin ones are in it too."""
    return font_of_size(max(SMALLEST, round(side / TILES)))


def line_height(side: float = 0) -> int:
    """Pixels from one line of text to the next."""
    return round(1.25 * font(side).size)


def shortened(text: str, width: float) -> str:
    """A text of at most `width` pixels below a tile of that width.

    Where it is longer, an ellipsis stands for a part of it: a third of what is kept is its beginning, and the rest its
    end, which tells names of files apart.
    """
    drawn = font(width)
    if drawn.getlength(text) <= width:
        return text
    for kept in range(min(len(text), int(width)) - 1, 0, -1):
        cut = f"{text[: kept // 3]}…{text[len(text) - kept + kept // 3 :]}"
        if drawn.getlength(cut) <= width:
            return cut
    return ""


def wrapped(text: str, width: float) -> str:
    """A name in one line or two of at most `width` pixels, broken after a separator where that leaves room for all.

    A name that is too long keeps as much of its beginning as fits into the first line, and of its end into the second.
    """
    drawn = font(width)
    if drawn.getlength(text) <= width:
        return text
    first = _fitting(drawn, text, width)
    breaks = [index + 1 for index in range(first) if text[index] in SEPARATORS]
    for end in (*breaks[-1:], first):
        if end and drawn.getlength(text[end:]) <= width:
            return f"{text[:end]}\n{text[end:]}"
    beginning = _fitting(drawn, text, width - drawn.getlength("…"))
    end = len(text) - _fitting(drawn, text[::-1], width)
    return f"{text[:beginning]}…\n{text[end:]}"


def paragraph(text: str, width: float, side: float = 0) -> list[str]:
    """Lines of whole words, none of them wider than `width` pixels unless a single word is."""
    drawn, lines = font(side), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and drawn.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _fitting(drawn: FreeTypeFont, text: str, width: float) -> int:
    """How many characters of a text, from its beginning, are at most `width` pixels wide."""
    counts = range(min(len(text), max(0, int(width))), 0, -1)
    return next((count for count in counts if drawn.getlength(text[:count]) <= width), 0)

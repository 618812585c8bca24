"""Synthetic digits, labeled at no cost: the simulated domain of Shrivastava et al. 2017, for handwriting.

A digit consists of a few strokes, which are smooth curves through the points of a skeleton. Each digit has several
skeletons. Every drawing shifts the points, bends, slants, rotates and stretches the digit, and draws it with a round
pen of random width. Strokes are drawn from distances, without a rasterizer or a font, so an image depends on its random
numbers alone, and not on the machine.

The ink is bright on dark paper, and its longer side is about 20 of 28 pixels, as in MNIST. A style is a pen and a
paper: the digit of one number and seed has the same shape in each style, so that styles differ in appearance alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mlcli.runtime.random_streams import numpy_rng

DIGITS = 10
PIECES = 4  # line segments between two points of a stroke


@dataclass(frozen=True)
class Style:
    """A pen and a paper. Each pair is the range of a uniform distribution.

    width: width of a stroke, relative to the height of the ink. pressure: relative variation of the width along the
    strokes. soft: width in pixels over which the edge of a stroke fades. level: brightness of the ink. noise: standard
    deviation of the noise of each pixel.
    """

    width: tuple[float, float]
    pressure: float
    soft: tuple[float, float]
    level: tuple[float, float]
    noise: tuple[float, float]


STYLES = {
    # A round pen on clean paper, much as in MNIST
    "a": Style((0.065, 0.15), 0.18, (0.9, 1.6), (0.8, 1.0), (0.0, 0.06)),
    # A plotter: an even hairline, pale on clean paper
    "b": Style((0.045, 0.06), 0.0, (0.9, 1.1), (0.5, 0.7), (0.0, 0.02)),
}

# Skeletons of each digit: strokes of points x,y in hundredths of the height, x to the right and y downward. Strokes
# that meet share a point; a stroke that returns to its first point is closed.
SKELETONS = (
    (  # 0
        "36,0 10,20 2,52 12,86 34,100 58,84 67,48 58,14 36,0",
        "46,4 20,8 4,40 8,80 32,100 60,80 66,40 50,8 30,5",
        "62,20 44,0 14,18 0,62 18,98 50,94 70,54 64,16 42,16",
    ),
    (  # 1
        "34,0 33,50 32,100",
        "12,24 24,14 34,0 / 34,0 33,50 32,100",
        "12,24 24,14 34,0 / 34,0 33,50 32,100 / 8,100 32,100 58,100",
    ),
    (  # 2
        "5,22 20,3 46,3 58,24 44,54 20,80 2,100 / 2,100 34,98 68,97",
        "4,20 22,2 50,6 56,32 36,66 14,92 2,92 6,80 24,84 44,98 70,90",
        "10,18 30,2 52,12 52,36 40,66 18,96 2,88 6,68 26,62 46,78 70,94",
        "14,10 38,0 56,20 46,56 26,94 6,98 0,80 18,66 44,78 80,76",
    ),
    (  # 3
        "6,12 28,0 54,14 48,38 24,47 / 24,47 54,56 60,80 34,100 3,90",
        "6,3 32,2 58,2 / 58,2 44,20 28,42 / 28,42 56,52 62,78 36,100 4,90",
        "5,10 30,0 52,14 46,36 26,46 34,50 56,64 54,88 30,100 2,88",
    ),
    (  # 4
        "14,3 8,30 4,52 / 4,52 32,52 68,48 / 56,0 52,50 48,100",
        "48,0 26,30 1,64 / 1,64 34,64 70,62 / 48,0 48,50 46,100",
        "10,4 8,34 20,50 40,46 56,36 / 58,2 54,50 48,100",
    ),
    (  # 5
        "62,2 38,2 14,3 / 14,3 12,24 10,44 / 10,44 34,37 58,50 58,82 32,100 2,92",
        "66,0 40,5 20,6 14,22 16,40 42,46 56,64 48,90 22,100 2,90",
    ),
    (  # 6
        "50,0 24,20 8,50 8,80 26,100 50,92 58,72 44,54 22,58 8,76",
        "28,0 12,28 6,60 12,90 34,100 56,86 54,62 34,54 12,68 12,82",
    ),
    (  # 7
        "2,5 30,4 62,2 / 62,2 44,36 32,66 26,100",
        "2,5 30,4 62,2 / 62,2 44,36 32,66 26,100 / 14,50 36,49 60,47",
        "4,22 4,12 5,4 / 5,4 32,6 60,4 / 60,4 44,30 36,64 34,100",
        "0,12 14,2 36,6 60,3 52,24 36,58 24,100",
        "0,26 8,6 34,14 66,2 / 66,2 46,44 38,100",
    ),
    (  # 8
        "54,10 32,0 10,12 14,34 34,48 58,66 56,90 32,100 8,88 10,66 34,48 54,30 54,10",
        "34,0 13,10 13,36 34,47 54,36 54,10 34,0 / 34,47 8,58 7,88 33,100 60,88 59,58 34,47",
        "64,6 40,0 18,12 22,32 42,52 46,80 28,100 8,90 12,68 36,44 60,22 66,10",
        "60,14 42,2 20,8 16,26 34,46 46,66 40,92 20,100 6,86 14,62 40,42 56,26 60,14",
    ),
    (  # 9
        "56,14 32,0 8,14 8,40 30,50 52,38 56,14 / 56,14 54,56 50,100",
        "56,16 36,0 10,10 6,36 26,48 50,34 56,16 / 56,16 58,56 46,88 24,100 6,92",
        "54,8 30,2 8,20 14,46 40,42 56,16 54,50 42,78 24,100",
    ),
)


def digit(
    number: int, seed: int, size: int = 28, fonts: Sequence[Path | None] = (), style: str = "a"
) -> tuple[Tensor, int]:
    """(image (size, size) uint8, label) of this number in the series of the seed. Labels cycle through 0 to 9.

    fonts: as `available_fonts` returns them. If there are any, every second digit is set in one of them instead of
    drawn, with the brightness and the noise of the style. style: a key of STYLES.
    """
    chosen = STYLES[style]
    random = numpy_rng(seed, "digits/digit", number)
    label = number % DIGITS
    if fonts and number // DIGITS % 2:
        ink = printed(label, size, random, fonts[int(random.integers(len(fonts)))])
    else:
        ink = drawn(label, size, random, chosen)
    # Ink of uneven strength on paper that is not quite black
    level, noise = random.uniform(*chosen.level), random.uniform(*chosen.noise)
    ink = ink * level + noise * random.standard_normal(ink.shape, np.float32)
    return torch.from_numpy(np.clip(ink * 255 + 0.5, 0, 255).astype(np.uint8)), label


# -- strokes -------------------------------------------------------------------------------------------------


def drawn(label: int, size: int, random: np.random.Generator, style: Style = STYLES["a"]) -> np.ndarray:
    """A digit drawn in strokes, (size, size) float32 in [0, 1]."""
    strokes = skeleton(label, int(random.integers(len(SKELETONS[label]))))
    positions: dict[tuple[float, float], np.ndarray] = {}
    for stroke in strokes:
        for point in stroke:  # a point that strokes share is shifted once
            if point not in positions:
                positions[point] = np.array(point) + 0.028 * random.standard_normal(2)
    pieces = [spline(np.array([positions[point] for point in stroke])) for stroke in strokes]
    starts, ends = (np.concatenate([piece[part] for piece in pieces]) for part in (slice(-1), slice(1, None)))
    points = bent(np.stack([starts, ends]), random)  # (2, pieces, 2)
    width = random.uniform(*style.width)  # relative to the height of the ink
    wave = np.sin(random.uniform(0, 2 * math.pi) + np.linspace(0, random.uniform(2, 8), len(starts)))
    starts, ends = fitted(points, width, size, random)
    soft = random.uniform(*style.soft)
    radius = width * (1 + style.pressure * wave) * size * 20 / 28 / 2
    return strokes_of(starts, ends, radius, soft, size)


@cache
def skeleton(label: int, number: int) -> list[list[tuple[float, float]]]:
    """The strokes of one skeleton of a digit, as points (x, y), with y from 0 at the top to 1 at the bottom."""
    strokes = [stroke.split(" ") for stroke in SKELETONS[label][number].split(" / ")]
    points = [[point.split(",") for point in stroke] for stroke in strokes]
    return [[(int(x) / 100, int(y) / 100) for x, y in stroke] for stroke in points]


def spline(points: np.ndarray) -> np.ndarray:
    """A smooth curve (n, 2) through points (k, 2), closed if the last is the first (Catmull and Rom 1974)."""
    closed = bool((points[0] == points[-1]).all())
    first, last = (points[-2], points[1]) if closed else (2 * points[0] - points[1], 2 * points[-1] - points[-2])
    p = np.concatenate([first[None], points, last[None]])
    t = (np.arange(PIECES) / PIECES)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - 3 * c + d - a) * t**3)
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


def bent(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Points (..., 2) bent by two slow waves, stretched, slanted and rotated."""
    x, y = points[..., 0], points[..., 1]
    bend = 0.045 * random.standard_normal(4)
    phase, pace = random.uniform(0, 2 * math.pi, 4), random.uniform(2.5, 6, 4)
    x, y = (
        x + bend[0] * np.sin(pace[0] * y + phase[0]) + bend[1] * np.sin(pace[1] * x + phase[1]),
        y + bend[2] * np.sin(pace[2] * x + phase[2]) + bend[3] * np.sin(pace[3] * y + phase[3]),
    )
    wide, slant, angle = random.uniform(0.75, 1.25), 0.24 * random.standard_normal(), 0.1 * random.standard_normal()
    x = wide * (x - 0.33) - slant * (y - 0.5)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([cos * x - sin * (y - 0.5), sin * x + cos * (y - 0.5)], -1)


def fitted(points: np.ndarray, width: float, size: int, random: np.random.Generator) -> np.ndarray:
    """Points (..., 2) scaled and centered in an image; with the pen, the longer side is 17 to 21 of 28 pixels."""
    low, high = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
    scale = random.uniform(17, 21) / 28 * size / ((high - low).max() + width)
    middle = (size - 1) / 2 + random.uniform(-1, 1, 2) * size / 28
    return middle + (points - (low + high) / 2) * scale


def strokes_of(starts: np.ndarray, ends: np.ndarray, radius: np.ndarray, soft: float, size: int) -> np.ndarray:
    """The ink of round strokes, (size, size) float32 in [0, 1].

    starts, ends: end points (k, 2) of line segments. radius: (k,). soft: width in pixels over which edges fade.
    """
    positions = np.arange(size, dtype=np.float32)
    starts, along = starts.astype(np.float32), (ends - starts).astype(np.float32)
    x = positions[None, None, :] - starts[:, 0, None, None]  # (k, 1, size)
    y = positions[None, :, None] - starts[:, 1, None, None]
    dx, dy = along[:, 0, None, None], along[:, 1, None, None]
    length = np.maximum(dx * dx + dy * dy, np.float32(1e-6))
    t = np.clip((x * dx + y * dy) / length, 0, 1)  # the nearest position on the segment
    distance = np.sqrt((x - t * dx) ** 2 + (y - t * dy) ** 2) - radius.astype(np.float32)[:, None, None]
    return np.clip(0.5 - distance.min(0) / np.float32(soft), 0, 1)


# -- fonts ---------------------------------------------------------------------------------------------------


def available_fonts() -> list[Path | None]:
    """Pillow's own font (None) and the TrueType and OpenType fonts in the usual folders that have digits."""
    home = Path.home()
    folders = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".fonts", home / ".local/share/fonts"]
    folders += [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix.lower() in (".ttf", ".otf"))
    return [font for font in (None, *files) if _has_digits(font)]


def printed(label: int, size: int, random: np.random.Generator, font: Path | None) -> np.ndarray:
    """A digit set in a font, slanted, rotated and stretched, (size, size) float32 in [0, 1]."""
    large = 4 * size
    bold = int(random.integers(0, 3)) if large >= 80 else 0
    glyph = _glyph(font, large, str(label), bold)
    if glyph is None:
        return drawn(label, size, random)
    wide, slant, angle = random.uniform(0.8, 1.2), 0.18 * random.standard_normal(), 0.1 * random.standard_normal()
    scale = large * random.uniform(17, 21) / 28 / max(glyph.size[0] * wide, glyph.size[1])
    cos, sin = math.cos(angle), math.sin(angle)
    forward = np.array([[cos, -sin], [sin, cos]]) @ np.array([[wide, -slant], [0, 1]]) * scale
    back = np.linalg.inv(forward)
    middle = large / 2 + random.uniform(-1, 1, 2) * large / 28
    offset = np.array(glyph.size) / 2 - back @ middle
    matrix = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    placed = glyph.transform((large, large), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(placed.resize((size, size), Image.Resampling.BOX), np.float32) / 255


@lru_cache(4096)
def _glyph(font: Path | None, size: int, text: str, bold: int = 0) -> Image.Image | None:
    """The ink of a text, white on black, cropped to its bounding box; None if there is no ink."""
    face = ImageFont.load_default(size) if font is None else ImageFont.truetype(str(font), size)
    image = Image.new("L", (3 * size, 3 * size))
    ImageDraw.Draw(image).text((size, size), text, 255, face, stroke_width=bold)
    box = image.getbbox()
    return None if box is None else image.crop(box)


def _has_digits(font: Path | None) -> bool:
    """Whether the font has ten different digits, none of them the box of a missing glyph."""
    try:
        glyphs = [_glyph(font, 40, sign) for sign in "0123456789\U0010fffd"]
    except Exception:  # FreeType's own errors, and files that are not fonts
        return False
    return None not in glyphs[:DIGITS] and len({(g.size, g.tobytes()) for g in glyphs if g is not None}) == len(glyphs)

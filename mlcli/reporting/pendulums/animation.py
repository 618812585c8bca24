"""An animation of pendulums side by side, as an animated GIF."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from mlcli.reporting import captions, theme

SIDE = 200  # pixels of a panel
SHARPER = 3  # drawn so much larger and reduced, which smooths the edges
COLORS = 24  # of a frame
LONGEST = 0.36  # of the side of a panel, which the longest rod takes
SHORTEST = 0.4  # of the longest, which the shortest rod takes at least
TEXT = (34, 34, 34)


@dataclass(frozen=True)
class Moving:
    """A pendulum in motion. angles: of each frame, 0 upright.  torques: of each frame, in units of the greatest one.

    length: in any unit that all pendulums share.  time_step: seconds between frames.
    """

    title: str
    angles: Sequence[float]
    torques: Sequence[float]
    length: float
    time_step: float


def gif(pendulums: Sequence[Moving], milliseconds: int = 50) -> bytes:
    """The content of a GIF file that shows one step of all pendulums in each frame, again and again."""
    count = min(len(each.torques) for each in pendulums)
    longest = max(each.length for each in pendulums)
    frames = [_frame(pendulums, step, longest) for step in range(count)]
    palette = frames[count // 2].quantize(COLORS)
    indexed = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    buffer = io.BytesIO()
    indexed[0].save(buffer, "gif", save_all=True, append_images=indexed[1:], duration=milliseconds, loop=0)
    return buffer.getvalue()


def _frame(pendulums: Sequence[Moving], step: int, longest: float) -> Image.Image:
    height = SIDE + 2 * captions.line_height(SIDE)
    canvas = Image.new("RGB", (SIDE * len(pendulums) * SHARPER, height * SHARPER), "white")
    draw = ImageDraw.Draw(canvas)
    for number, each in enumerate(pendulums):
        _draw_rod(draw, each, step, longest, number)
    canvas = canvas.resize((SIDE * len(pendulums), height), Image.Resampling.BOX)
    draw, font = ImageDraw.Draw(canvas), captions.font(SIDE)
    for number, each in enumerate(pendulums):
        lines = [captions.shortened(each.title, SIDE - 8), f"{step * each.time_step:.1f} s"]
        draw.multiline_text(((number + 0.5) * SIDE, SIDE), "\n".join(lines), TEXT, font, "ma", align="center")
    return canvas


def _draw_rod(draw: ImageDraw.ImageDraw, each: Moving, step: int, longest: float, number: int) -> None:
    """The rod, and the torque as an arc around the axle in its direction, a half circle for the greatest."""
    side = SIDE * SHARPER
    x, y = (number + 0.5) * side, side / 2
    length = LONGEST * side * max(SHORTEST, each.length / longest)
    color = theme.SERIES[number % len(theme.SERIES)][0]
    angle = each.angles[step]
    # positive angles are counterclockwise, as gymnasium draws them
    end = x - length * math.sin(angle), y - length * math.cos(angle)
    width = side // 22
    draw.line([(x, y), end], fill=color, width=width)
    for center in ((x, y), end):
        draw.ellipse(_box(*center, width / 2), fill=color)
    draw.ellipse(_box(x, y, width / 5), fill="white")
    sweep = 180 * max(-1.0, min(1.0, each.torques[step]))
    if abs(sweep) > 1:
        first, last = sorted((-90.0, -90.0 - sweep))
        draw.arc(_box(x, y, side * 0.44), first, last, fill=theme.COLORS["axis"][0], width=side // 70)


def _box(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius

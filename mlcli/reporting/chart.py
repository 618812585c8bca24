"""Curves as an image: panels side by side with axes, and one legend for all."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeGuard

from PIL import Image, ImageDraw, ImageFont

from mlcli.reporting.canvas import INK, LINE, PAPER

FINE = 3  # factor by which the image is drawn larger and then reduced, which smooths the lines
FONT_SIZE, LINE_HEIGHT = 12, 16  # pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 30, 44  # around the axes of a panel
# Distinguishable with red-green color blindness too (after Wong 2011), in the order of use
COLORS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (90, 90, 90))


Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Curve(NamedTuple):
    """The values of a curve at the positions on the x axis, None where there is none.

    level: a value that is drawn as a dash at the right end. dots: which points get a dot. A curve without values is
    left out of its panel, but not of the legend.
    """

    name: str
    values: Sequence[float | None]
    dots: Sequence[bool] = ()
    level: float | None = None


class Panel(NamedTuple):
    """Curves over one pair of axes."""

    title: str
    curves: Sequence[Curve]


def chart(
    title: str,
    panels: Sequence[Panel],
    positions: Sequence[float],
    labels: Sequence[str],
    caption: str,
    *,
    joined: bool = True,
    width: int = 400,
    height: int = 280,
) -> Image.Image:
    """Panels side by side, each (width, height) pixels inside its axes; the y axes run from 0 to the largest value.

    positions: of the values on the x axis, increasing. labels: one for each position; those without room are left out.
    caption: of the x axis. Curves of one name have one color. joined: draw lines; else each value is a dot.
    """
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    shown = [v for panel in panels for curve in panel.curves for v in (*curve.values, curve.level) if _is_number(v)]
    step, top = scale(max(shown, default=1.0))
    font = ImageFont.load_default(FONT_SIZE)
    legend = 26 + round(max((font.getlength(name) for name in names), default=0))
    cell = LEFT + width + RIGHT
    size = len(panels) * cell + legend, LINE_HEIGHT + TOP + height + BOTTOM
    large = Image.new("RGB", (size[0] * FINE, size[1] * FINE), PAPER)
    pen = ImageDraw.Draw(large)
    span = (positions[-1] - positions[0]) or 1.0
    texts: list[tuple[tuple[float, float], str, str]] = [((8, 4), title, "la")]
    for number, panel in enumerate(panels):
        left, floor = number * cell + LEFT, LINE_HEIGHT + TOP + height

        def at(position: float, value: float, left: int = left, floor: int = floor) -> tuple[float, float]:
            return left + (position - positions[0]) / span * width, floor - value / top * height

        texts.append(((left, LINE_HEIGHT + 8), panel.title, "la"))
        for line in range(round(top / step) + 1):
            y = at(positions[0], line * step)[1]
            _line(pen, [(left, y), (left + width, y)], LINE, 1)
            texts.append(((left - 6, y), f"{line * step:.3g}", "rm"))
        for position, label in _fitting(positions, labels, width, font):
            x = at(position, 0)[0]
            _line(pen, [(x, floor), (x, floor + 4)], INK, 1)
            texts.append(((x, floor + 7), label, "ma"))
        texts.append(((left + width / 2, floor + 24), caption, "ma"))
        for curve in panel.curves:
            _curve(pen, curve, positions, at, colors[curve.name], joined)
    for number, name in enumerate(names):
        corner = len(panels) * cell, LINE_HEIGHT + TOP + 8 + LINE_HEIGHT * number
        _line(pen, [corner, (corner[0] + 14, corner[1])], colors[name], 2.5)
        texts.append(((corner[0] + 20, corner[1]), name, "lm"))
    image = large.resize(size, Image.Resampling.BOX)
    writer = ImageDraw.Draw(image)
    for position_of_text, text, anchor in texts:
        writer.text(position_of_text, text, INK, font, anchor=anchor)
    return image


def scale(greatest: float, lines: int = 5) -> tuple[float, float]:
    """(step, end) of an axis from 0 to `greatest` or more: about `lines` steps of 1, 2 or 5 times a power of ten."""
    if greatest <= 0:
        return 1.0, 1.0
    rough = greatest / lines
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return step, step * math.ceil(greatest / step * (1 - 1e-9))


def _curve(
    pen: ImageDraw.ImageDraw,
    curve: Curve,
    positions: Sequence[float],
    at: Callable[[float, float], tuple[float, float]],
    color: Color,
    joined: bool,
) -> None:
    """Draw a curve, with a gap where there is no value. at: from (position, value) to pixels."""
    piece: list[tuple[float, float]] = []
    for number, (position, value) in enumerate(zip(positions, curve.values, strict=True)):
        if not _is_number(value):
            _line(pen, piece, color, 2)
            piece = []
            continue
        x, y = at(position, value)
        if joined:
            piece.append((x, y))
        if not joined or (curve.dots and curve.dots[number]):
            pen.ellipse([FINE * side for side in (x - 3.5, y - 3.5, x + 3.5, y + 3.5)], fill=color)
    _line(pen, piece, color, 2)
    if _is_number(curve.level):
        x, y = at(positions[-1], curve.level)
        _line(pen, [(x + 4, y), (x + 14, y)], color, 2)


def _line(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color: Color, width: float) -> None:
    if len(points) > 1:
        pen.line([(x * FINE, y * FINE) for x, y in points], fill=color, width=round(width * FINE), joint="curve")


def _fitting(positions: Sequence[float], labels: Sequence[str], width: int, font: Font) -> list[tuple[float, str]]:
    """Every n-th position with its label, for the smallest n with which the labels do not touch."""
    span = (positions[-1] - positions[0]) or 1.0
    for every in range(1, len(positions)):
        kept = list(zip(positions, labels, strict=True))[::every]
        ends = [((p - positions[0]) / span * width, font.getlength(label) / 2 + 4) for p, label in kept]
        if all(x + half <= y - other for (x, half), (y, other) in zip(ends, ends[1:], strict=False)):
            return kept
    return [(positions[0], labels[0])]


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)

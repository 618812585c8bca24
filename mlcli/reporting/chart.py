"""Curves as an image: panels side by side with axes, and one legend for them all."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from mlcli.reporting.canvas import INK, LINE, PAPER

FINE = 3  # drawn this much larger and then reduced, which smooths the lines
FONT_SIZE, LINE_HEIGHT = 12, 16  # pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 20, 30, 44  # around the axes of a panel
# Told apart also by those who see red and green alike (after Wong 2011), in the order of use
COLORS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (90, 90, 90))


class Curve(NamedTuple):
    """One value by place on the x axis, None where there is none; `level` is drawn at the right end as a dash.

    dots: which points get one. A curve without points is left out of its panel, but not of the legend.
    """

    name: str
    values: Sequence[float | None]
    dots: Sequence[bool] = ()
    level: float | None = None


class Panel(NamedTuple):
    title: str
    curves: Sequence[Curve]


def chart(
    title: str,
    panels: Sequence[Panel],
    places: Sequence[float],
    labels: Sequence[str],
    caption: str,
    *,
    joined: bool = True,
    width: int = 400,
    height: int = 280,
) -> Image.Image:
    """Panels of (width, height) pixels inside their axes, from 0 to the greatest value of them all.

    places: of the points on the x axis, rising; labels: below them, as many as there is room for; caption: of the axis.
    The curves of a name have one color. joined: by lines; else each point is a dot.
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
    span = (places[-1] - places[0]) or 1.0
    texts: list[tuple[tuple[float, float], str, str]] = [((8, 4), title, "la")]
    for number, panel in enumerate(panels):
        left, floor = number * cell + LEFT, LINE_HEIGHT + TOP + height

        def at(place, value, left=left, floor=floor):
            return left + (place - places[0]) / span * width, floor - value / top * height

        texts.append(((left, LINE_HEIGHT + 8), panel.title, "la"))
        for line in range(round(top / step) + 1):
            y = at(places[0], line * step)[1]
            _line(pen, [(left, y), (left + width, y)], LINE, 1)
            texts.append(((left - 6, y), f"{line * step:.3g}", "rm"))
        for place, label in _room(places, labels, width, font):
            x = at(place, 0)[0]
            _line(pen, [(x, floor), (x, floor + 4)], INK, 1)
            texts.append(((x, floor + 7), label, "ma"))
        texts.append(((left + width / 2, floor + 24), caption, "ma"))
        for curve in panel.curves:
            _curve(pen, curve, places, at, colors[curve.name], joined)
    for number, name in enumerate(names):
        x, y = len(panels) * cell, LINE_HEIGHT + TOP + 8 + LINE_HEIGHT * number
        _line(pen, [(x, y), (x + 14, y)], colors[name], 2.5)
        texts.append(((x + 20, y), name, "lm"))
    image = large.resize(size, Image.Resampling.BOX)
    writer = ImageDraw.Draw(image)
    for place, text, anchor in texts:
        writer.text(place, text, INK, font, anchor=anchor)
    return image


def scale(greatest: float, lines: int = 5) -> tuple[float, float]:
    """(step, end) of an axis from 0: a step of 1, 2 or 5 times a power of ten, about so many up to `greatest`."""
    if greatest <= 0:
        return 1.0, 1.0
    rough = greatest / lines
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return step, step * math.ceil(greatest / step * (1 - 1e-9))


def _curve(pen: ImageDraw.ImageDraw, curve: Curve, places, at, color, joined: bool) -> None:
    piece: list[tuple[float, float]] = []
    for number, (place, value) in enumerate(zip(places, curve.values, strict=True)):
        if not _is_number(value):
            _line(pen, piece, color, 2)
            piece = []
            continue
        x, y = at(place, value)
        if joined:
            piece.append((x, y))
        if not joined or (curve.dots and curve.dots[number]):
            pen.ellipse([FINE * side for side in (x - 3.5, y - 3.5, x + 3.5, y + 3.5)], fill=color)
    _line(pen, piece, color, 2)
    if _is_number(curve.level):
        x, y = at(places[-1], curve.level)
        _line(pen, [(x + 4, y), (x + 14, y)], color, 2)


def _line(pen: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], color, width: float) -> None:
    if len(points) > 1:
        pen.line([(x * FINE, y * FINE) for x, y in points], fill=color, width=round(width * FINE), joint="curve")


def _room(places: Sequence[float], labels: Sequence[str], width: int, font) -> list[tuple[float, str]]:
    """Every n-th place with its label, the first n for which the labels do not touch."""
    span = (places[-1] - places[0]) or 1.0
    for every in range(1, len(places)):
        kept = list(zip(places, labels, strict=True))[::every]
        ends = [((p - places[0]) / span * width, font.getlength(label) / 2 + 4) for p, label in kept]
        if all(x + half <= y - other for (x, half), (y, other) in zip(ends, ends[1:], strict=False)):
            return kept
    return [(places[0], labels[0])]


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)

"""Translations, rotations, flips and changes of scale of images and of maps, exact wherever they can be.

A value moves from t^-1(p) to p: (t f)(p) = f(t^-1 p). Places are (row, column) in pixels of a square image, the
middle of its first pixel (0, 0). Where t^-1 takes the places of a grid to places of it, nothing is interpolated;
elsewhere the values are bilinear.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlcli.errors import UsageError

MIRROR, CIRCULAR = "mirror", "circular"  # how what is moved goes on beyond its border
EXACT = 1e-6  # units of the grid; nearer to a whole number nothing is interpolated
FLIPS = {"none": (1, 1), "left-right": (1, -1), "upside down": (-1, 1), "both": (-1, -1)}
UNITS = {"translate": "pixels to the right", "rotate": "degrees to the left", "scale": "times as large", "flip": "flip"}


class Motion(NamedTuple):
    """Where the value at a place comes from: t^-1(p) = center + matrix (p - center) - shift; (row, column), pixels.

    shrinks: of how many places a side each value is the mean, so that an image made smaller keeps what falls between.
    """

    matrix: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    shift: float = 0.0  # to the right
    shrinks: int = 1

    def source(self, rows: Tensor, columns: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Places (h, 1) and (1, w) of an image (side, side) to those (h, w) that their values come from."""
        center = (side - 1) / 2
        (a, b), (c, d) = self.matrix
        rows, columns = rows - center, columns - center
        return center + a * rows + b * columns, center + c * rows + d * columns - self.shift


def motion(transform: str, amount: float | str) -> Motion:
    """translate: pixels to the right; rotate: degrees to the left; scale: a factor; flip: a name of FLIPS."""
    if transform == "translate":
        return Motion(shift=float(amount))
    if transform == "rotate":
        angle = math.radians(amount)
        # Rounded, so that a quarter turn takes whole pixels to whole pixels
        cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)
        return Motion(((cos, sin), (-sin, cos)))
    if transform == "scale":
        return Motion(((1 / amount, 0.0), (0.0, 1 / amount)), shrinks=math.ceil(1 / amount - EXACT))
    down, across = FLIPS[amount]
    return Motion(((float(down), 0.0), (0.0, float(across))))


def amounts(transform: str, most: float | None, points: int, side: int, stride: float) -> list[float | str]:
    """The range of a transformation in so many points, that which changes nothing among them.

    most: the greatest amount; by default twice the stride of the coarsest layer in pixels but at least an eighth of the
    side, half a turn, or twice as large; scale begins at 1 / most.  Raises UsageError for one that cannot be.
    """
    if transform == "flip":
        if most is not None:
            raise UsageError("--range: a flip has none")
        return list(FLIPS)
    if most is None:
        most = {"translate": min(side, max(2 * stride, side // 8)), "rotate": 180.0, "scale": 2.0}[transform]
    least, limit = {"translate": (1, side), "rotate": (1, 360), "scale": (1.01, 4)}[transform]
    if not least <= most <= limit:
        raise UsageError(f"--range {most:g}: for {transform} {least:g} to {limit:g} ({UNITS[transform]})")
    if transform == "scale":
        half = max(1, points // 2)
        return [most ** (step / half) for step in range(-half, half + 1)]
    even = [most * step / (points - 1) for step in range(points)]
    return list(dict.fromkeys(map(round, even))) if transform == "translate" else even


class Grid(NamedTuple):
    """Places (h, 1) and (1, w) in pixels, `step` apart; `known`: where the first of the values at hand stands."""

    rows: Tensor
    columns: Tensor
    step: float
    known: tuple[float, float]


def sample(values: Tensor, rows: Tensor, columns: Tensor, border: str) -> tuple[Tensor, bool]:
    """((N, C, h, w), whether exact): the values (N, C, H, W) at places (h, w), in units of their grid.

    border: how they go on, MIRROR (the border value twice) or CIRCULAR.
    """
    exact = all(bool((places - places.round()).abs().max() < EXACT) for places in (rows, columns))
    if exact:
        return _at(values, rows.round(), columns.round(), border), True
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top).to(values), (columns - left).to(values)
    upper = torch.lerp(_at(values, top, left, border), _at(values, top, left + 1, border), right)
    lower = torch.lerp(_at(values, top + 1, left, border), _at(values, top + 1, left + 1, border), right)
    return torch.lerp(upper, lower, down), False


def _at(values: Tensor, rows: Tensor, columns: Tensor, border: str) -> Tensor:
    sides = values.shape[-2:]
    places = (_fold(p.long(), n, border).to(values.device) for p, n in zip((rows, columns), sides, strict=True))
    return values[(..., *places)]


def _fold(places: Tensor, length: int, border: str) -> Tensor:
    if border == CIRCULAR:
        return places % length
    places = places % (2 * length)
    return torch.minimum(places, 2 * length - 1 - places)


def moved(values: Tensor, t: Motion, grid: Grid, side: int, border: str) -> tuple[Tensor, bool]:
    """((N, C, h, w), whether exact): t(values) at the places of a grid, values (N, C, H, W) known at `grid.known`."""
    offsets = [((step + 0.5) / t.shrinks - 0.5) * grid.step for step in range(t.shrinks)]
    total, exact = None, t.shrinks == 1
    for down in offsets:
        for right in offsets:
            rows, columns = t.source(grid.rows + down, grid.columns + right, side)
            rows, columns = (rows - grid.known[0]) / grid.step, (columns - grid.known[1]) / grid.step
            part, whole = sample(values, rows, columns, border)
            total, exact = part if total is None else total + part, exact and whole
    return total / len(offsets) ** 2, exact

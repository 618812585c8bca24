"""Shifts, rotations, flips and scalings of images and of feature maps, exact wherever possible.

A transformation t moves a value from t^-1(p) to p: (t f)(p) = f(t^-1 p). Positions are (row, column) in pixels of a
square image; the center of its first pixel is (0, 0). Where t^-1 maps positions of a grid to positions of the grid,
nothing is interpolated; elsewhere the values are interpolated bilinearly.
"""

import math
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from mlcli.errors import UsageError

SYMMETRIC, CIRCULAR = "symmetric", "circular"  # extension of the values beyond the border
EXACT = 1e-6  # distance to an integer, in steps of the grid, below which nothing is interpolated
FLIPS = {"none": (1, 1), "left-right": (1, -1), "upside down": (-1, 1), "both": (-1, -1)}
UNITS = {"shift": "pixels to the right", "rotate": "degrees to the left", "scale": "times as large", "flip": "flip"}


class Motion(NamedTuple):
    """The inverse of a transformation: t^-1(p) = center + matrix (p - center) - shift, with (row, column) in pixels.

    shrinks: each value is the mean over shrinks x shrinks positions, so that an image made smaller has no aliasing.
    """

    matrix: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    shift: float = 0.0  # to the right
    shrinks: int = 1

    def source(self, rows: Tensor, columns: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """The positions (h, w) from which the values at positions (h, 1) and (1, w) come.

        rows, columns: positions in an image (side, side), in pixels. Returns (rows, columns).
        """
        center = (side - 1) / 2
        (a, b), (c, d) = self.matrix
        rows, columns = rows - center, columns - center
        return center + a * rows + b * columns, center + c * rows + d * columns - self.shift


def motion(transform: str, amount: float | str) -> Motion:
    """The transformation of this name and amount.

    amount: pixels to the right for 'shift', degrees counterclockwise for 'rotate', a factor for 'scale', a key of FLIPS
    for 'flip'.
    """
    if isinstance(amount, str):
        down, across = FLIPS[amount]
        return Motion(((float(down), 0.0), (0.0, float(across))))
    if transform == "shift":
        return Motion(shift=float(amount))
    if transform == "rotate":
        angle = math.radians(amount)
        # Rounded, so that a quarter turn maps pixels to pixels exactly
        cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)
        return Motion(((cos, sin), (-sin, cos)))
    return Motion(((1 / amount, 0.0), (0.0, 1 / amount)), shrinks=math.ceil(1 / amount - EXACT))


def amounts(transform: str, most: float | None, points: int, side: int, stride: float) -> list[float | str]:
    """The amounts of a transformation that are measured, the identity among them.

    most: greatest amount. The default for shifts is twice the stride of the coarsest layer, and at least an eighth of
    the side; for rotations 180 degrees; for scales a factor of 2. Scales begin at 1 / most. points: number of amounts.
    side: side of the images in pixels. stride: stride of the coarsest layer in pixels. Raises UsageError for a greatest
    amount that is out of range.
    """
    if transform == "flip":
        if most is not None:
            raise UsageError("--range: a flip has none")
        return list(FLIPS)
    if most is None:
        most = {"shift": min(side, max(2 * stride, side // 8)), "rotate": 180.0, "scale": 2.0}[transform]
    least, limit = {"shift": (1, side), "rotate": (1, 360), "scale": (1.01, 4)}[transform]
    if not least <= most <= limit:
        raise UsageError(f"--range {most:g}: for {transform} {least:g} to {limit:g} ({UNITS[transform]})")
    if transform == "scale":
        half = max(1, points // 2)
        return [most ** (step / half) for step in range(-half, half + 1)]
    even = [most * step / (points - 1) for step in range(points)]
    return [*dict.fromkeys(map(round, even))] if transform == "shift" else [*even]


class Grid(NamedTuple):
    """Positions (h, 1) and (1, w) in pixels, `step` apart. known: (row, column) of the first of the known values."""

    rows: Tensor
    columns: Tensor
    step: float
    known: tuple[float, float]


def sample(values: Tensor, rows: Tensor, columns: Tensor, border: str) -> tuple[Tensor, bool]:
    """Sample values (N, C, H, W) at positions (h, w), given in steps of their grid.

    border: extension of the values, SYMMETRIC (a reflection that repeats the border value) or CIRCULAR.
    Returns ((N, C, h, w), whether nothing was interpolated).
    """
    exact = all(bool((positions - positions.round()).abs().max() < EXACT) for positions in (rows, columns))
    if exact:
        return _at(values, rows.round(), columns.round(), border), True
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top).to(values), (columns - left).to(values)
    upper = torch.lerp(_at(values, top, left, border), _at(values, top, left + 1, border), right)
    lower = torch.lerp(_at(values, top + 1, left, border), _at(values, top + 1, left + 1, border), right)
    return torch.lerp(upper, lower, down), False


def _at(values: Tensor, rows: Tensor, columns: Tensor, border: str) -> Tensor:
    """The values (N, C, H, W) at integer positions (h, w), which may lie beyond the border: (N, C, h, w)."""
    height, width = values.shape[-2:]
    inside_rows = _fold(rows.long(), height, border).to(values.device)
    inside_columns = _fold(columns.long(), width, border).to(values.device)
    return values[..., inside_rows, inside_columns]


def _fold(positions: Tensor, length: int, border: str) -> Tensor:
    """Positions beyond the border mapped to those inside, 0 to length - 1, that have the same value."""
    if border == CIRCULAR:
        return positions % length
    positions = positions % (2 * length)
    return torch.minimum(positions, 2 * length - 1 - positions)


def transform_values(values: Tensor, t: Motion, grid: Grid, side: int, border: str) -> tuple[Tensor, bool]:
    """t(values) at the positions of a grid.

    values: (N, C, H, W), the first of them at `grid.known`. side: side of the image in pixels. border: as in `sample`.
    Returns ((N, C, h, w), whether nothing was interpolated).
    """
    offsets = [((step + 0.5) / t.shrinks - 0.5) * grid.step for step in range(t.shrinks)]
    parts, exact = [], t.shrinks == 1
    for down in offsets:
        for right in offsets:
            rows, columns = t.source(grid.rows + down, grid.columns + right, side)
            rows, columns = (rows - grid.known[0]) / grid.step, (columns - grid.known[1]) / grid.step
            part, whole = sample(values, rows, columns, border)
            parts.append(part)
            exact = exact and whole
    return reduce(torch.add, parts) / len(offsets) ** 2, exact

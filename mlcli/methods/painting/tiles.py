"""An image cut into tiles whose feature maps, put together, are those of the whole image.

Each tile is seen with a context as wide as the receptive fields reach out of it, and begins at a multiple of the
stride, so the units that are its own have the values that they have in the whole image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mlcli.errors import UsageError
from mlcli.models.graph import WHOLE, Layer


@dataclass(frozen=True)
class Span:
    """One side of a tile, in pixels: its own from `start` up to `stop`, those it sees from `first` up to `last`."""

    start: int
    stop: int
    first: int
    last: int
    ends: bool  # whether the image ends here

    def own(self, stride: int) -> slice:
        """Its own units among those of a map of this stride that was computed from what it sees."""
        return slice((self.start - self.first) // stride, None if self.ends else (self.stop - self.first) // stride)


@dataclass(frozen=True)
class Tile:
    rows: Span
    columns: Span

    @property
    def whole(self) -> bool:
        """Whether all that it sees is its own."""
        return all(span.first == span.start and span.ends for span in (self.rows, self.columns))

    def seen(self, image: Tensor) -> Tensor:
        """The part of (..., H, W) that the tile sees, its own pixels and their context."""
        return image[..., self.rows.first : self.rows.last, self.columns.first : self.columns.last]

    def own(self, maps: Tensor, stride: int = 1) -> Tensor:
        """The tile's own units of maps (..., h, w) computed from what it sees."""
        if self.whole:
            return maps  # a slice of all would cost a copy in the backward pass
        return maps[..., self.rows.own(stride), self.columns.own(stride)]


def tiles(height: int, width: int, layers: Sequence[Layer], side: int) -> list[Tile]:
    """The tiles, at most about `side` pixels wide without their context, of an image (height, width).

    layers: those whose maps are to be whole. One tile, of any layers, where the image is no larger than `side`.
    Raises UsageError where a unit of a layer sees the whole image, which then cannot be cut.
    """
    if max(height, width) <= side:
        return [Tile(Span(0, height, 0, height, True), Span(0, width, 0, width, True))]
    for layer in layers:
        if WHOLE in layer.reach or layer.stride != round(layer.stride):
            raise UsageError(
                f"{layer.address}: its units see the whole image, so one of {width} x {height} cannot be cut into "
                f"tiles of {side}; take earlier layers, a smaller --size or a larger --tile"
            )
    step = math.lcm(*(round(layer.stride) for layer in layers))
    vertical = _spans(height, side, step, [(reach.top, reach.height, reach.stride) for reach in _reaches(layers)])
    horizontal = _spans(width, side, step, [(reach.left, reach.width, reach.stride) for reach in _reaches(layers)])
    return [Tile(rows, columns) for rows in vertical for columns in horizontal]


def _reaches(layers: Sequence[Layer]):
    return [layer.reach for layer in layers]


def _spans(length: int, side: int, step: int, fields: Sequence[tuple[float, float, float]]) -> list[Span]:
    """One side of the image cut evenly. fields: (where that of unit 0 begins, its length, stride) for each layer."""
    before = _up(max(0, *(-begin for begin, _, _ in fields)), step)
    after = max(1, *(math.ceil(begin + field - stride) for begin, field, stride in fields))
    own = _up(length / math.ceil(length / max(side, step)), step)
    return [
        Span(
            start,
            min(start + own, length),
            max(0, start - before),
            min(start + own + after, length),
            start + own >= length,
        )
        for start in range(0, length, own)
    ]


def _up(value: float, step: int) -> int:
    """The next multiple of `step`."""
    return math.ceil(value / step) * step

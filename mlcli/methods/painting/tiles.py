"""Cutting an image into tiles whose feature maps, put together, equal those of the whole image.

Each tile is given to the network with a context as wide as the receptive fields extend beyond it. It begins at a
multiple of the stride. So its own units have the same values as in the whole image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mlcli.errors import UsageError
from mlcli.models.structure.graph import WHOLE, Layer


@dataclass(frozen=True)
class Span:
    """The rows or columns of a tile in pixels: its own from `start` to `stop`, with context from `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int
    ends: bool  # whether the image ends at `stop`

    def own(self, stride: int) -> slice:
        """The tile's own units in a map of this stride, computed from the tile with its context."""
        return slice((self.start - self.first) // stride, None if self.ends else (self.stop - self.first) // stride)


@dataclass(frozen=True)
class Tile:
    """A tile of an image and its context."""

    rows: Span
    columns: Span

    @property
    def whole(self) -> bool:
        """Whether the tile has no context."""
        return all(span.first == span.start and span.ends for span in (self.rows, self.columns))

    def with_context(self, image: Tensor) -> Tensor:
        """The pixels of the tile and its context in an image (..., H, W), as a view."""
        return image[..., self.rows.first : self.rows.last, self.columns.first : self.columns.last]

    def own(self, maps: Tensor, stride: int = 1) -> Tensor:
        """The tile's own units of maps (..., h, w), computed from the tile with its context."""
        if self.whole:
            return maps  # a slice of everything would cost a copy in the backward pass
        return maps[..., self.rows.own(stride), self.columns.own(stride)]


def tiles(height: int, width: int, layers: Sequence[Layer], side: int) -> list[Tile]:
    """The tiles of an image (height, width), at most about `side` pixels wide without their context.

    layers: the layers whose maps are computed. An image no larger than `side` is a single tile, whatever the layers.
    Raises UsageError if a unit of a layer sees the whole image, which then cannot be cut.
    """
    if max(height, width) <= side:
        return [Tile(Span(0, height, 0, height, True), Span(0, width, 0, width, True))]
    for layer in layers:
        if WHOLE in layer.field or layer.stride != round(layer.stride):
            raise UsageError(
                f"{layer.address}: its units see the whole image, so one of {width} x {height} cannot be cut into "
                f"tiles of {side}; take earlier layers, a smaller --size or a larger --tile"
            )
    step = math.lcm(*(round(layer.stride) for layer in layers))
    fields = [layer.field for layer in layers]
    vertical = _spans(height, side, step, [(field.top, field.height, field.stride) for field in fields])
    horizontal = _spans(width, side, step, [(field.left, field.width, field.stride) for field in fields])
    return [Tile(rows, columns) for rows in vertical for columns in horizontal]


def _spans(length: int, side: int, step: int, fields: Sequence[tuple[float, float, float]]) -> list[Span]:
    """Rows or columns of the image cut evenly into spans.

    fields: for each layer the start and the length of the receptive field of unit 0, and the stride.
    """
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

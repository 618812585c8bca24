"""A trained generator applied to images of any size: mirrored at the border to fit, cut into tiles where large."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mlcli.models.translators import Translator
from mlcli.runtime.device import Runtime

MARGIN, RAMP = 16, 32  # pixels of a tile's inner border that do not count, and over which it fades into the next


@torch.no_grad()
def translate(
    translator: Translator, images: Tensor, runtime: Runtime, *, tile: int = 1024, batch_size: int = 8
) -> Tensor:
    """(N, C, H, W) as the source kind reads them -> (N, 1 or 3, H, W) in [0, 1]; maps: (N, 1, H, W) uint8 classes.

    Images with a side over `tile` are cut into tiles of about that side, which overlap and fade into each other.
    (A network with instance norm sees each tile by the tile's own statistics.) batch_size: images or tiles at a time.
    """
    height, width = images.shape[2:]
    tile = max(tile, translator.smallest, 4 * (MARGIN + RAMP)) // translator.multiple * translator.multiple
    if max(height, width) <= tile:
        signal = torch.cat([_padded(translator, part, runtime) for part in images.split(batch_size)])
    else:
        signal = torch.cat([_tiled(translator, each, runtime, tile, batch_size) for each in images.split(1)])
    if translator.target.labels:
        return signal.argmax(1, keepdim=True).to(torch.uint8)
    return translator.target.images(signal)


def _padded(translator: Translator, images: Tensor, runtime: Runtime) -> Tensor:
    """The signal of images of any size, which are mirrored at their borders to a size that the network takes."""
    height, width = images.shape[2:]
    rows, columns = (
        mirrored(side, max(translator.smallest, math.ceil(side / translator.multiple) * translator.multiple))
        for side in (height, width)
    )
    whole = images[:, :, rows][:, :, :, columns]
    with runtime.autocast():
        signal = translator.signal(whole.to(runtime.device))
    top, left = (len(rows) - height) // 2, (len(columns) - width) // 2
    return signal[:, :, top : top + height, left : left + width].float().cpu()


def mirrored(side: int, length: int) -> Tensor:
    """(length,) indices of a side, in its order in the middle and mirrored at both ends as often as needed."""
    period = max(1, 2 * (side - 1))
    index = (torch.arange(length) - (length - side) // 2) % period
    return torch.where(index >= side, period - index, index)


def _tiled(translator: Translator, image: Tensor, runtime: Runtime, side: int, batch_size: int) -> Tensor:
    """The signal of one image (1, C, H, W), put together from tiles weighted so that they fade into each other."""
    height, width = image.shape[2:]
    rows, columns = list(spans(height, side)), list(spans(width, side))
    places = [(row, column) for row in rows for column in columns]
    total = weights = None
    for start in range(0, len(places), batch_size):
        some = places[start : start + batch_size]
        tiles = torch.cat([image[:, :, r.start : r.stop, c.start : c.stop] for (r, _), (c, _) in some])
        for made, ((r, fade_r), (c, fade_c)) in zip(_padded(translator, tiles, runtime), some, strict=True):
            if total is None:
                total, weights = made.new_zeros(1, len(made), height, width), made.new_zeros(height, width)
            fade = fade_r[:, None] * fade_c
            total[0, :, r.start : r.stop, c.start : c.stop] += made * fade
            weights[r.start : r.stop, c.start : c.stop] += fade
    return total / weights


def spans(length: int, side: int) -> Iterator[tuple[slice, Tensor]]:
    """(where a tile lies, the weights of its pixels) along one side of an image; tiles are spread evenly.

    At an inner border the weight is all but 0 over MARGIN pixels, and from there rises to 1 over RAMP.
    """
    if length <= side:
        yield slice(0, length), torch.ones(length)
        return
    overlap = 2 * MARGIN + RAMP
    count = math.ceil((length - overlap) / (side - overlap))
    rise = ((torch.arange(side) - MARGIN + 0.5) / RAMP).clamp(1e-6, 1)
    for number in range(count):
        start = round(number * (length - side) / (count - 1))
        weights = torch.ones(side)
        if number:
            weights = weights * rise
        if number < count - 1:
            weights = weights * rise.flip(0)
        yield slice(start, start + side), weights

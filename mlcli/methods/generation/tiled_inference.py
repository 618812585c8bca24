"""A trained generator applied to images of any size: padded by reflection to fit, split into tiles where large."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mlcli.models.translators import Translator
from mlcli.runtime.device import Runtime

MARGIN = 16  # pixels at the inner border of a tile that have almost no weight
RAMP = 32  # pixels over which the weight then rises to 1


@torch.no_grad()
def translate(
    translator: Translator, images: Tensor, runtime: Runtime, *, tile: int = 1024, batch_size: int = 8
) -> Tensor:
    """(N, C, H, W) as the source spec reads them -> (N, 1 or 3, H, W) in [0, 1]; label maps (N, 1, H, W) uint8.

    Images with a side longer than `tile` are split into tiles of about that side, which overlap and are blended.
    (Instance norm then takes the statistics of each tile.) batch_size: images or tiles at a time.
    """
    height, width = images.shape[2:]
    tile = max(tile, translator.smallest, 4 * (MARGIN + RAMP)) // translator.multiple * translator.multiple
    if max(height, width) <= tile:
        output = torch.cat([_padded(translator, part, runtime) for part in images.split(batch_size)])
    else:
        output = torch.cat([_tiled(translator, each, runtime, tile, batch_size) for each in images.split(1)])
    if translator.target.labels:
        return output.argmax(1, keepdim=True).to(torch.uint8)
    return translator.target.to_images(output)


def _padded(translator: Translator, images: Tensor, runtime: Runtime) -> Tensor:
    """The output for images of any size, which are padded by reflection to a size that the network takes."""
    height, width = images.shape[2:]
    rows, columns = (
        reflected(side, max(translator.smallest, math.ceil(side / translator.multiple) * translator.multiple))
        for side in (height, width)
    )
    whole = images[:, :, rows][:, :, :, columns]
    with runtime.autocast():
        output = translator.network_output(whole.to(runtime.device))
    top, left = (len(rows) - height) // 2, (len(columns) - width) // 2
    return output[:, :, top : top + height, left : left + width].float().cpu()


def reflected(side: int, length: int) -> Tensor:
    """(length,) indices into a side: in order in the middle, reflected at both ends as often as needed."""
    period = max(1, 2 * (side - 1))
    index = (torch.arange(length) - (length - side) // 2) % period
    return torch.where(index >= side, period - index, index)


def _tiled(translator: Translator, image: Tensor, runtime: Runtime, side: int, batch_size: int) -> Tensor:
    """The output for one image (1, C, H, W), blended from the weighted outputs for its tiles."""
    height, width = image.shape[2:]
    rows, columns = list(spans(height, side)), list(spans(width, side))
    positions = [(row, column) for row in rows for column in columns]
    weights = torch.zeros(height, width)
    total = torch.zeros(())  # (1, channels of the output, H, W) from the first tile on
    for start in range(0, len(positions), batch_size):
        some = positions[start : start + batch_size]
        tiles = torch.cat([image[:, :, r.start : r.stop, c.start : c.stop] for (r, _), (c, _) in some])
        for output, ((r, weight_r), (c, weight_c)) in zip(_padded(translator, tiles, runtime), some, strict=True):
            if not total.ndim:
                total = output.new_zeros(1, len(output), height, width)
            weight = weight_r[:, None] * weight_c
            total[0, :, r.start : r.stop, c.start : c.stop] += output * weight
            weights[r.start : r.stop, c.start : c.stop] += weight
    return total / weights


def spans(length: int, side: int) -> Iterator[tuple[slice, Tensor]]:
    """(position of a tile, weights of its pixels) along one side of an image; tiles are spaced evenly.

    At an inner border the weight is almost 0 over MARGIN pixels and then rises to 1 over RAMP pixels.
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

"""The patches of images to which units respond (Zeiler and Fergus 2014; the appendix of Olah et al. 2017).

A unit answers at every place of its map. Of each image count its greatest and its least value, read before the ReLU,
each with the patch of the image that the unit sees there, so no image is in a group twice. The groups of a unit:

- strongly positive: the n greatest of all maxima, strongly negative: the n least of all minima, whatever their sign;
- slightly positive: of the maxima above zero, n around the rank that nine in ten surpass, where the unit is excited as
  much as it gets but only just; slightly negative: the same of the minima below zero.

The extreme nearest to zero itself would be that of the emptiest image, the same one for every unit. A rank needs all
values, so these come from an even sample of the images: all while there are at most SAMPLE, then every second, every
fourth and so on. Each group begins with its strongest; of equal values the one that comes first in the files, and then
in the map, counts. Memory depends on the units and on n, and not on the number of images.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import ImageError
from mlcli.io import image_io, srgb
from mlcli.io.decoding import decode
from mlcli.models import features
from mlcli.models.features import SIGNED, Activations
from mlcli.models.graph import Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime

GROUPS = ("strongly_positive", "slightly_positive", "slightly_negative", "strongly_negative")
SLIGHT = 0.9  # of the ranks of one sign, the strongest at 0 and zero at 1
SAMPLE = 1024


class PreparedImage(NamedTuple):
    """An image as the network sees it, and the size of the file's own (upright)."""

    prepared: Tensor
    height: int
    width: int

    @classmethod
    def prepare(cls, preprocessing: Preprocessing, image: Tensor) -> "PreparedImage":
        return cls(preprocessing.prepare(image), *image.shape[1:])


@dataclass(frozen=True)
class Patch:
    """What a unit sees at one place.

    image: the number of the image. value: of the unit, before its ReLU. place: (row, column) in the map.
    box: (left, top, right, bottom) in pixels of the upright image. size: (height, width) of that image.
    """

    image: int
    value: float
    place: tuple[int, int]
    box: tuple[int, int, int, int]
    size: tuple[int, int]


class Patches:
    """What was found for the units of one layer."""

    def __init__(self, layer: Layer, units: Sequence[int], preprocessing: Preprocessing, top: int):
        self.layer = layer
        self.units = list(units)
        self.preprocessing = preprocessing
        self.top = top
        self.maxima = Extremes(len(units), top, greatest=True)
        self.minima = Extremes(len(units), top, greatest=False)

    def add(self, values: Tensor, origins: Tensor) -> None:
        """values: (B, C, ...) of the whole layer. origins: (B, 3), number, height and width of each image."""
        values = values.flatten(2) if values.ndim > 2 else values[:, :, None]  # (B, C, places)
        if len(self.units) < values.shape[1]:
            values = values[:, self.units]
        for extremes, found in ((self.maxima, values.max(2)), (self.minima, values.min(2))):
            extremes.add(found.values.float().cpu(), found.indices.cpu(), origins)

    def of(self, unit: int) -> dict[str, list[Patch]]:
        """group: its patches (at most `top`), strongest first."""
        row = self.units.index(unit)
        found = (self.maxima.strong, self.maxima.slight, self.minima.slight, self.minima.strong)
        return {group: [self._patch(*kept) for kept in find(row)] for group, find in zip(GROUPS, found, strict=True)}

    def _patch(self, value: float, place: int, image: int, height: int, width: int) -> Patch:
        row, column = divmod(place, self.layer.shape[2]) if len(self.layer.shape) == 3 else (0, 0)
        crop = self.preprocessing.crop
        box = self.preprocessing.source_box(self.layer.box(row, column, crop, crop), height, width)
        return Patch(image, value, (row, column), box, (height, width))


class Extremes:
    """The greatest (or least) value of each unit in each image: the n strongest, and an even sample of all."""

    def __init__(self, units: int, top: int, *, greatest: bool):
        self.top, self.greatest = top, greatest
        self.values = torch.empty(units, 0)
        self.sources = torch.empty(units, 0, 4, dtype=torch.int64)  # place, number, height, width
        self.count, self.stride = 0, 1
        self.sampled_values = torch.empty(0, units)
        self.sampled_places = torch.empty(0, units, dtype=torch.int64)
        self.sampled_origins = torch.empty(0, 3, dtype=torch.int64)

    def add(self, values: Tensor, places: Tensor, origins: Tensor) -> None:
        """values, places: (B, units). origins: (B, 3)."""
        units = values.shape[1]
        sources = torch.cat([places.T[:, :, None], origins.expand(units, -1, -1)], 2)  # (units, B, 4)
        self.values = torch.cat([self.values, values.T], 1)
        self.sources = torch.cat([self.sources, sources], 1)
        order = self.values.argsort(dim=1, descending=self.greatest, stable=True)[:, : self.top]
        self.values = self.values.gather(1, order)
        self.sources = self.sources.gather(1, order[:, :, None].expand(-1, -1, 4))

        first = -self.count % self.stride
        self.sampled_values = torch.cat([self.sampled_values, values[first :: self.stride]])
        self.sampled_places = torch.cat([self.sampled_places, places[first :: self.stride]])
        self.sampled_origins = torch.cat([self.sampled_origins, origins[first :: self.stride]])
        self.count += len(values)
        while len(self.sampled_values) > SAMPLE:
            self.sampled_values = self.sampled_values[::2]
            self.sampled_places = self.sampled_places[::2]
            self.sampled_origins = self.sampled_origins[::2]
            self.stride *= 2

    def strong(self, row: int) -> list[tuple]:
        """(value, place, number, height, width) of the n strongest."""
        return [(v, *s) for v, s in zip(self.values[row].tolist(), self.sources[row].tolist(), strict=True)]

    def slight(self, row: int) -> list[tuple]:
        """The same of n around the rank SLIGHT among those of the sample that have the sign."""
        values = self.sampled_values[:, row]
        signed = (values > 0 if self.greatest else values < 0).nonzero()[:, 0]
        ranked = signed[values[signed].argsort(descending=self.greatest, stable=True)]
        start = max(0, min(int(SLIGHT * len(ranked)) - self.top // 2, len(ranked) - self.top))
        return [
            (values[i].item(), self.sampled_places[i, row].item(), *self.sampled_origins[i].tolist())
            for i in ranked[start : start + self.top].tolist()
        ]


@torch.inference_mode()
def search(
    model: Model,
    wanted: Mapping[str, Sequence[int]],
    images: Iterable[tuple[int, PreparedImage]],
    runtime: Runtime,
    *,
    top: int,
    batch_size: int,
) -> dict[str, Patches]:
    """address: the patches of its units, from one pass over (number, image).

    wanted: address: units, for any number of layers. Raises WeightsError where the network's answer is no number.
    """
    found = {
        address: Patches(features.resolve(model, address), units, model.preprocessing, top)
        for address, units in wanted.items()
    }
    activations = Activations(model, [address + SIGNED for address in wanted])
    images = iter(images)
    while batch := list(islice(images, batch_size)):
        origins = torch.tensor([(number, image.height, image.width) for number, image in batch])
        prepared = image_io.stack([image.prepared for _, image in batch]).to(runtime.device)
        with runtime.autocast():
            values = activations(prepared)
        for address, patches in found.items():
            patches.add(model.finite(values[address + SIGNED], runtime), origins)
    return found


def crops(
    paths: Sequence[Path], patches: Sequence[Patch], side: int, *, gray: bool = False, workers: int | None = None
) -> list[Tensor | ImageError]:
    """Each patch as (3, h, w) uint8, its longer side `side`, cut from the image as it is in its file.

    Each file is read once more; an ImageError stands for each patch of one that has gone or changed meanwhile. gray: as
    a network of gray images sees it.
    """
    wanted: dict[Path, list[int]] = {}
    for index, patch in enumerate(patches):
        wanted.setdefault(paths[patch.image], []).append(index)

    def cut(path: Path) -> list[Tensor]:
        image = image_io.read(path)
        return [_cut(image, patches[index], path, side, gray) for index in wanted[path]]

    result: dict[int, Tensor | ImageError] = {}
    for indices, (_, found) in zip(wanted.values(), decode(wanted, read=cut, workers=workers), strict=True):
        result |= zip(indices, [found] * len(indices) if isinstance(found, ImageError) else found, strict=True)
    return [result[index] for index in range(len(patches))]


def _cut(image: Tensor, patch: Patch, path: Path, side: int, gray: bool) -> Tensor:
    if image.shape[1:] != patch.size:
        raise ImageError(f"{path}: has changed since its patches were found")
    left, top, right, bottom = patch.box
    piece = image_io.to_bytes(image[:, top:bottom, left:right])
    if gray:
        piece = image_io.to_gray(piece).expand(3, -1, -1)
    scale = side / max(right - left, bottom - top)
    size = [max(1, round(scale * length)) for length in (right - left, bottom - top)]
    return srgb.from_pillow(image_io.to_pillow(piece).resize(size, Image.Resampling.BICUBIC))

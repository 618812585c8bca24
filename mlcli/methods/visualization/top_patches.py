"""The image patches to which units respond (Zeiler and Fergus 2014; the appendix of Olah et al. 2017).

A unit has a value at every position of its map, read before the ReLU. Of each image, the greatest and the least value
count, each with the patch in the receptive field at its position. So no image is in a group twice. A unit has four
groups of n patches:

- strongly positive: the n greatest maxima; strongly negative: the n least minima; both whatever their sign;
- slightly positive: of the maxima above zero, the n around the 10th percentile, in images to which the unit responds
  only weakly; slightly negative: the same of the minima below zero.

The weakest response itself would come from the emptiest image, which is the same for every unit. A rank needs all
values, so the slight groups come from an even sample of the images: all of them up to SAMPLE, then every second, every
fourth and so on. Each group begins with its strongest patch. Ties are decided by the order of the files, then by the
position in the map. Memory depends on the number of units and on n, but not on the number of images.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import ImageError, UsageError
from mlcli.imaging import image_io, srgb
from mlcli.imaging.decoding import decode
from mlcli.imaging.memory_images import MemoryImage
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.features import SIGNED, Activations
from mlcli.models.structure.graph import Layer
from mlcli.runtime.device import Runtime

GROUPS = ("strongly_positive", "slightly_positive", "slightly_negative", "strongly_negative")
SLIGHT = 0.9  # relative rank of the slight groups among values of one sign, with the strongest at 0 and zero at 1
SAMPLE = 1024  # images that the slight groups are chosen from, at most


class PreparedImage(NamedTuple):
    """An image prepared for the network, and the size of the upright original in pixels."""

    prepared: Tensor
    height: int
    width: int

    @classmethod
    def prepare(cls, preprocessing: Preprocessing, image: Tensor) -> "PreparedImage":
        """Prepare an image (3, H, W) as read from its file."""
        return cls(preprocessing.prepare(image), image.shape[1], image.shape[2])


@dataclass(frozen=True)
class Patch:
    """The part of an image in the receptive field of a unit at one position.

    image: index of the image. value: the unit's value before its ReLU. position: (row, column) in the map.
    box: (left, top, right, bottom) in pixels of the upright image. size: (height, width) of that image.
    """

    image: int
    value: float
    position: tuple[int, int]
    box: tuple[int, int, int, int]
    size: tuple[int, int]


class Patches:
    """The patches that were found for the units of one layer, `top` in each group."""

    def __init__(self, layer: Layer, units: Sequence[int], preprocessing: Preprocessing, top: int):
        self.layer = layer
        self.units = list(units)
        self.preprocessing = preprocessing
        self.top = top
        self.maxima = Extremes(len(units), top, greatest=True)
        self.minima = Extremes(len(units), top, greatest=False)

    def add(self, values: Tensor, origins: Tensor) -> None:
        """Add a batch of images.

        values: (B, C, ...), activations of the whole layer. origins: (B, 3), index, height and width of each image.
        """
        values = values.flatten(2) if values.ndim > 2 else values[:, :, None]  # (B, C, positions)
        if len(self.units) < values.shape[1]:
            values = values[:, self.units]
        for extremes, found in ((self.maxima, values.max(2)), (self.minima, values.min(2))):
            extremes.add(found.values.float().cpu(), found.indices.cpu(), origins)

    def of(self, unit: int) -> dict[str, list[Patch]]:
        """The patches of a unit by group, at most `top` in each, the strongest first."""
        row = self.units.index(unit)
        found = (self.maxima.strong, self.maxima.slight, self.minima.slight, self.minima.strong)
        return {group: [self._patch(*kept) for kept in find(row)] for group, find in zip(GROUPS, found, strict=True)}

    def _patch(self, value: float, position: int, image: int, height: int, width: int) -> Patch:
        row, column = divmod(position, self.layer.shape[2]) if len(self.layer.shape) == 3 else (0, 0)
        crop = self.preprocessing.crop
        box = self.preprocessing.source_box(self.layer.box(row, column, crop, crop), height, width)
        return Patch(image, value, (row, column), box, (height, width))


class Extremes:
    """The greatest (or least) value of each unit in each image: the `top` strongest, and an even sample of all."""

    def __init__(self, units: int, top: int, *, greatest: bool):
        self.top, self.greatest = top, greatest
        self.values = torch.empty(units, 0)
        self.sources = torch.empty(units, 0, 4, dtype=torch.int64)  # position, image, height, width
        self.count, self.stride = 0, 1
        self.sampled_values = torch.empty(0, units)
        self.sampled_positions = torch.empty(0, units, dtype=torch.int64)
        self.sampled_origins = torch.empty(0, 3, dtype=torch.int64)

    def add(self, values: Tensor, positions: Tensor, origins: Tensor) -> None:
        """Add a batch of images. values, positions: (B, units). origins: (B, 3), as in `Patches.add`."""
        units = values.shape[1]
        sources = torch.cat([positions.T[:, :, None], origins.expand(units, -1, -1)], 2)  # (units, B, 4)
        self.values = torch.cat([self.values, values.T], 1)
        self.sources = torch.cat([self.sources, sources], 1)
        order = self.values.argsort(dim=1, descending=self.greatest, stable=True)[:, : self.top]
        self.values = self.values.gather(1, order)
        self.sources = self.sources.gather(1, order[:, :, None].expand(-1, -1, 4))

        first = -self.count % self.stride
        self.sampled_values = torch.cat([self.sampled_values, values[first :: self.stride]])
        self.sampled_positions = torch.cat([self.sampled_positions, positions[first :: self.stride]])
        self.sampled_origins = torch.cat([self.sampled_origins, origins[first :: self.stride]])
        self.count += len(values)
        while len(self.sampled_values) > SAMPLE:
            self.sampled_values = self.sampled_values[::2]
            self.sampled_positions = self.sampled_positions[::2]
            self.sampled_origins = self.sampled_origins[::2]
            self.stride *= 2

    def strong(self, row: int) -> list[tuple[float, int, int, int, int]]:
        """(value, position, image, height, width) of the strongest values of the unit in this row."""
        return [(v, *s) for v, s in zip(self.values[row].tolist(), self.sources[row].tolist(), strict=True)]

    def slight(self, row: int) -> list[tuple[float, int, int, int, int]]:
        """The same for values around the rank SLIGHT, among the positive (or negative) values of the sample."""
        values = self.sampled_values[:, row]
        signed = (values > 0 if self.greatest else values < 0).nonzero()[:, 0]
        ranked = signed[values[signed].argsort(descending=self.greatest, stable=True)]
        start = max(0, min(int(SLIGHT * len(ranked)) - self.top // 2, len(ranked) - self.top))
        return [
            (values[i].item(), int(self.sampled_positions[i, row]), *self.sampled_origins[i].tolist())
            for i in ranked[start : start + self.top].tolist()
        ]


def search(
    model: Model,
    wanted: Mapping[str, Sequence[int]],
    images: Iterable[tuple[int, PreparedImage]],
    runtime: Runtime,
    *,
    top: int,
    batch_size: int,
    target: int | None = None,
) -> dict[str, Patches]:
    """Find the patches of units in one pass over the images. Returns the `Patches` of each layer by address.

    wanted: units by address of their layer. images: pairs of (index, image). top: patches in each group.
    target: index of a class; the value of a unit is then its `relevance` to that class.
    Raises WeightsError where an activation is not finite, UsageError where a class has no logit of its own.
    """
    found = {
        address: Patches(features.resolve(model, address), units, model.preprocessing, top)
        for address, units in wanted.items()
    }
    values_of = _signed(model, list(wanted)) if target is None else relevance(model, list(wanted), target)
    images = iter(images)
    while batch := list(islice(images, batch_size)):
        origins = torch.tensor([(number, image.height, image.width) for number, image in batch])
        prepared = image_io.stack([image.prepared for _, image in batch]).to(runtime.device)
        with runtime.autocast():
            values = values_of(prepared)
        for address, patches in found.items():
            patches.add(model.finite(values[address], runtime), origins)
    return found


def _signed(model: Model, addresses: Sequence[str]) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """A function from images to the values of layers before their ReLUs, by address."""
    activations = Activations(model, [address + SIGNED for address in addresses])

    @torch.inference_mode()
    def compute(images: Tensor) -> Mapping[str, Tensor]:
        values = activations(images)
        return {address: values[address + SIGNED] for address in addresses}

    return compute


def relevance(model: Model, addresses: Sequence[str], target: int) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """A function from images to the relevance of each unit at each position of layers to a class, by address.

    Relevance is the value after the ReLU times the gradient of the class's logit with respect to it: how much the
    logit would fall, to first order, if the unit were zero there (Shrikumar et al. 2016). To rank patches by relevance
    instead of activation is the idea of Achtibat et al. 2023, who compute relevance by other rules (LRP).
    Raises UsageError where the network does not end with the logits of its classes.
    """
    last = features.layers(model)[-1]
    if last.shape != (len(model.classes),):
        raise UsageError(f"--model {model.name}: does not end with the values of its classes; take another model")
    activations = Activations(model, [*addresses, last.address])

    def compute(images: Tensor) -> Mapping[str, Tensor]:
        with torch.enable_grad():
            values = activations(image_io.to_unit(images).requires_grad_())
            gradients = torch.autograd.grad(values[last.address][:, target].sum(), [values[a] for a in addresses])
        return {a: values[a].detach() * gradient for a, gradient in zip(addresses, gradients, strict=True)}

    return compute


def crops(
    images: Sequence[Path | MemoryImage],
    patches: Sequence[Patch],
    side: int,
    *,
    gray: bool = False,
    workers: int | None = None,
) -> list[Tensor | ImageError]:
    """Each patch as an image (3, h, w) uint8 with a longer side of `side`, cut from its original image.

    Each file is read again. A file that is missing or has changed gives an ImageError for each of its patches.
    gray: convert the patches to gray, for a network of gray images.
    """
    wanted: dict[Path | MemoryImage, list[int]] = {}
    for index, patch in enumerate(patches):
        wanted.setdefault(images[patch.image], []).append(index)

    def cut(source: Path | MemoryImage) -> list[Tensor]:
        image = read_again(source, patches[wanted[source][0]].size)
        return [_cut(image, patches[index], side, gray) for index in wanted[source]]

    result: dict[int, Tensor | ImageError] = {}
    for indices, (_, found) in zip(wanted.values(), decode(wanted, read=cut, workers=workers), strict=True):
        result |= zip(indices, [found] * len(indices) if isinstance(found, ImageError) else found, strict=True)
    return [result[index] for index in range(len(patches))]


def read_again(source: Path | MemoryImage, size: tuple[int, int]) -> Tensor:
    """The image (3, H, W) in which patches were found. Raises ImageError where its (height, width) is not this size."""
    image = image_io.read(source)
    if image.shape[1:] != size:
        raise ImageError(f"{source}: has changed since its patches were found")
    return image


def tile_size(patch: Patch, side: int) -> tuple[int, int]:
    """(height, width) of the tile of a patch, its longer side `side`."""
    left, top, right, bottom = patch.box
    scale = side / max(right - left, bottom - top)
    return max(1, round(scale * (bottom - top))), max(1, round(scale * (right - left)))


def _cut(image: Tensor, patch: Patch, side: int, gray: bool) -> Tensor:
    """The patch of an image (3, H, W), as `crops` returns it."""
    left, top, right, bottom = patch.box
    piece = image_io.to_bytes(image[:, top:bottom, left:right])
    if gray:
        piece = image_io.to_gray(piece).expand(3, -1, -1)
    return srgb.from_pillow(image_io.to_pillow(piece).resize(tile_size(patch, side)[::-1], Image.Resampling.BICUBIC))

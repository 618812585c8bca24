"""Projections of units to pixels, beside their patches: what of a patch a unit responds to.

`deconv` is the deconvnet of Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks: all other
units of the layer are set to zero, and the value of the unit is passed back to pixels, through transposed
convolutions, the positions that max pooling chose, and ReLUs. `guided` is guided backpropagation (Springenberg et al.
2015, Striving for Simplicity: The All Convolutional Net), which passes ReLUs only where they were positive forward as
well. Both are gradients of the unit with another rule for ReLUs (`relu_rules`).

Deviations: The unit is read before its ReLU. Where its value is negative the projection is that of the negative unit:
what makes it respond so. Batch norms, which the papers' networks had not, pass the gradient as the linear maps
that they are. Each projection is scaled by itself, with gray for zero.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mlcli.data.preprocessing import stretch
from mlcli.errors import ImageError
from mlcli.imaging import image_io
from mlcli.imaging.decoding import decode
from mlcli.imaging.memory_images import MemoryImage
from mlcli.methods.visualization.top_patches import Patch, read_again, tile_size
from mlcli.models.model import Model
from mlcli.models.relu_rules import ReluRule
from mlcli.models.structure import features
from mlcli.models.structure.features import SIGNED, Activations
from mlcli.runtime.device import Runtime

BATCH_SIZE = 16  # images whose gradients are computed together
WHITE = 0.99  # quantile of the magnitudes of a projection from which on they are drawn as black or white


class Projector:
    """Projects units of one layer to the pixels of images, by one of `relu_rules.RULES`."""

    def __init__(self, model: Model, address: str, rule: str, runtime: Runtime):
        self.model, self.rule, self.runtime = model, rule, runtime
        self.layer = features.resolve(model, address)
        self.node = address + SIGNED
        self.activations = Activations(model, [self.node])

    def gradients(self, images: Tensor, units: Sequence[int], patches: Sequence[Patch]) -> Tensor:
        """The projections (N, C, H, W) of one unit at the position of one patch for each prepared image (N, C, H, W).

        They are in units of the unit per unit of the image's values in [0, 1], and zero outside the receptive field.
        """
        pixels = image_io.to_unit(images.to(self.runtime.device)).requires_grad_()
        with torch.enable_grad(), ReluRule(self.rule), self.runtime.autocast():
            values = self.activations(pixels)[self.node]
            rows = torch.arange(len(values), device=values.device)
            chosen = values[rows, torch.tensor(units, device=values.device)]
            if chosen.ndim > 1:
                positions = torch.tensor([patch.position for patch in patches], device=values.device)
                chosen = chosen[rows, positions[:, 0], positions[:, 1]]
            signs = torch.where(chosen < 0, -1.0, 1.0).to(chosen.dtype)
        return torch.autograd.grad(chosen, pixels, signs)[0]

    def tiles(
        self,
        images: Sequence[Path | MemoryImage],
        units: Sequence[int],
        patches: Sequence[Patch],
        side: int,
        workers: int | None = None,
    ) -> list[Tensor | ImageError]:
        """The projection of each patch as an image (3, h, w) uint8, of the size of its tile (`top_patches.crops`).

        units: one for each patch. Each file is read again; one that is missing or has changed gives an ImageError.
        """
        tiles: dict[int, Tensor | ImageError] = {}
        waiting: list[tuple[int, Tensor]] = []

        def flush() -> None:
            indices, prepared = [index for index, _ in waiting], [image for _, image in waiting]
            chosen = [patches[index] for index in indices]
            found = self.gradients(torch.stack(prepared), [units[index] for index in indices], chosen)
            for index, patch, gradient in zip(indices, chosen, found.float().cpu(), strict=True):
                tiles[index] = self._tile(gradient, patch, side)
            waiting.clear()

        for index, prepared in enumerate(self._prepared(images, patches, workers)):
            if isinstance(prepared, ImageError):
                tiles[index] = prepared
                continue
            waiting.append((index, prepared))
            if len(waiting) == BATCH_SIZE:
                flush()
        if waiting:
            flush()
        return [tiles[index] for index in range(len(patches))]

    def _prepared(
        self, images: Sequence[Path | MemoryImage], patches: Sequence[Patch], workers: int | None
    ) -> Iterator[Tensor | ImageError]:
        """The prepared image of each patch."""
        sources = [images[patch.image] for patch in patches]
        sizes = {images[patch.image]: patch.size for patch in patches}

        def read(source: Path | MemoryImage) -> Tensor:
            return self.model.preprocessing.prepare(read_again(source, sizes[source]))

        for _, prepared in decode(sources, read=read, workers=workers, window=2 * BATCH_SIZE):
            yield prepared

    def _tile(self, gradient: Tensor, patch: Patch, side: int) -> Tensor:
        """The part of a projection (C, H, W) that the patch shows, as (3, h, w) uint8."""
        left, top, right, bottom = self.layer.box(*patch.position, *gradient.shape[1:])
        part = gradient[:, top:bottom, left:right].expand(3, -1, -1)
        return image_io.to_bytes(stretch(as_image(part), tile_size(patch, side), "bicubic"))


def as_image(projection: Tensor) -> Tensor:
    """A projection (C, H, W) as an image in [0, 1]: gray where it is zero, its greatest magnitudes black or white."""
    scale = projection.abs().flatten().quantile(WHITE)
    return 0.5 + (projection / (2 * scale)).clamp(-0.5, 0.5) if scale > 0 else torch.full_like(projection, 0.5)

"""The values of targets for images, and their gradients: what all methods of explanation are computed from."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property

import torch
from torch import Tensor

from mlcli.methods.explanation.incremental_inference import IncrementalNetwork, stages
from mlcli.methods.explanation.layer_maps import as_maps, gradients_from
from mlcli.methods.explanation.targets import Target
from mlcli.methods.visualization.objectives import WARM_UP, Batch, Objective
from mlcli.models.model import Model
from mlcli.models.relu_rules import ReluRule
from mlcli.models.structure.features import Activations
from mlcli.models.structure.folding import fold_norms, let_activations_overwrite
from mlcli.models.structure.graph import Layer
from mlcli.runtime.device import Runtime

PIXELS = 16 * 224 * 224  # of the images that are computed together; more are no faster on a CPU, and need memory
MOST = 128  # images, the most that are computed together


class Scorer:
    """The network as far as the targets need it, with batch norms folded and its weights fixed.

    Images are normalized ones (N, C, H, W), as the network itself is given.
    objectives: all that are asked for.  layer: of the class-activation maps, where there is one.
    """

    def __init__(
        self, model: Model, objectives: Sequence[Objective], runtime: Runtime, layer: Layer | None = None
    ) -> None:
        self.model, self.objectives, self.runtime, self.layer = model, list(objectives), runtime, layer
        self.addresses = Batch(self.objectives, [0] * len(self.objectives), runtime.device).addresses
        self.chunk = max(1, min(MOST, PIXELS // model.preprocessing.crop**2))

    @cached_property
    def activations(self) -> Activations:
        """What the targets are computed from."""
        return self.computing(self.addresses)

    def computing(self, addresses: Sequence[str]) -> Activations:
        """What computes the values of these layers. No gradient of a weight is ever asked for."""
        activations = Activations(self.model, addresses)
        fold_norms(activations.extractor)
        activations.extractor.requires_grad_(False)
        return activations

    def of_values(self, values: Mapping[str, Tensor], targets: Sequence[Target]) -> Tensor:
        """The value of each image's target (N,), of the activations (N, ...) of the layers."""
        batch = Batch([target.objective for target in targets], [0] * len(targets), self.runtime.device)
        batch.check_positions(values)
        some = next(iter(values.values()))
        return batch(values, some, WARM_UP)

    def values(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """The value of each image's target (N,), in batches of `chunk`."""
        found, activations = [], self.activations  # made here: its weights must be no tensors of inference alone
        with torch.inference_mode(), self.runtime.autocast():
            for first in range(0, len(images), self.chunk):
                part = self.as_given(images[first : first + self.chunk])
                found.append(self.of_values(of_normalized(activations, part), targets[first : first + self.chunk]))
        return torch.cat(found)

    def gradients(self, images: Tensor, targets: Sequence[Target], rule: str | None = None) -> tuple[Tensor, Tensor]:
        """(the values (N,), their gradients with respect to the images (N, C, H, W)).

        rule: by which gradients pass ReLUs, None for the chain rule; see models.relu_rules.
        """
        found = []
        for first in range(0, len(images), self.chunk):
            leaf = self.as_given(images[first : first + self.chunk]).detach().requires_grad_()
            with self.runtime.autocast(), ReluRule(rule) if rule else nullcontext():
                values = self.of_values(of_normalized(self.activations, leaf), targets[first : first + self.chunk])
            (gradient,) = torch.autograd.grad(values.sum(), leaf, materialize_grads=True)
            found.append((values.detach(), gradient))
        return torch.cat([values for values, _ in found]), torch.cat([gradient for _, gradient in found])

    def layer_gradients(self, images: Tensor, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
        """(the activations of `layer` (N, K, h, w), the gradients of the targets' values with respect to them)."""
        assert self.layer is not None
        found = []
        for first in range(0, len(images), self.chunk):
            part, some = self.as_given(images[first : first + self.chunk]), targets[first : first + self.chunk]
            with self.runtime.autocast():
                values = of_normalized(self._beyond_layer, part)
                leaf = values[self.layer.address]
                score = self.of_values(values, some)
            (gradient,) = torch.autograd.grad(score.sum(), leaf)
            found.append((as_maps(leaf.detach().float(), self.layer), as_maps(gradient.float(), self.layer)))
        return torch.cat([maps for maps, _ in found]), torch.cat([gradients for _, gradients in found])

    def values_with_squares(
        self, image: Tensor, filling: Tensor, corners: Sequence[tuple[int, int]], side: int, target: Target
    ) -> Tensor:
        """The target's value (len(corners),) for an image (1, C, H, W) with one square of it from the `filling`.

        corners: (top, left) of the squares.
        """
        network, found = self._incremental, []
        with torch.inference_mode(), self.runtime.autocast():
            for values in network(self.as_given(image), filling, corners, side, self.chunk):
                count = len(next(iter(values.values())))
                found.append(self.of_values(values, [target] * count))
        return torch.cat(found)

    def as_given(self, images: Tensor) -> Tensor:
        """Images in the memory format of the weights."""
        return images.contiguous(memory_format=self.runtime.memory_format)

    @cached_property
    def _incremental(self) -> IncrementalNetwork:
        on_the_way = [layer.address for layer in stages(self.model)]
        activations = self.computing([*self.addresses, *on_the_way])
        let_activations_overwrite(activations.extractor)
        return IncrementalNetwork(self.model, activations, self.addresses)

    @cached_property
    def _beyond_layer(self) -> Activations:
        """What computes the targets and the layer, with gradients from the layer on alone."""
        assert self.layer is not None
        activations = self.computing([*self.addresses, self.layer.address])
        gradients_from(activations, self.layer.address)
        return activations


def of_normalized(activations: Activations, images: Tensor) -> Mapping[str, Tensor]:
    """Address: activations of normalized images."""
    values = activations.extractor.forward(images)
    return {address: values[node] for address, node in activations.nodes.items()}

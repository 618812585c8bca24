"""Linear probes (Alain & Bengio 2016): the accuracy of a linear classifier on the activations of a layer.

The network is not changed. The same probe of an untrained network shows how much the network has learned.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.folders import ClassFolder
from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.evaluation.classification import Evaluation, evaluate
from mlcli.methods.learning import linear_head as logistic
from mlcli.models.model import Model
from mlcli.models.structure.features import Activations, hidden, layers, vectors
from mlcli.models.structure.graph import Layer
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import rng

MAX_FEATURES = 1024  # largest number of features of an image that a probe is given
FOLDS, HELD_OUT = 5, 2  # number of folds of the labeled images, and of those that are held out to choose l2
BATCH = 100  # images at a time


@dataclass(frozen=True)
class Probe:
    """A linear classifier of a layer. evaluation: on the test images. held_out_loss: on held-out labeled images."""

    evaluation: Evaluation
    held_out_loss: float

    @property
    def accuracy(self) -> float:
        """Accuracy on the test images."""
        return self.evaluation.correct / self.evaluation.count


def draw(folder: ClassFolder, labels: int, most: int, seed: int) -> tuple[ClassFolder, ClassFolder]:
    """Draw labeled images and test images, by the seed.

    labels: number of labeled images, spread over the classes as evenly as possible. most: largest number of test
    images, drawn from the rest.
    """
    turns: list[tuple[int, int, int]] = []  # (turn, label, index): one image of each class in turn
    for label in range(len(folder.classes)):
        members = [index for index, own in enumerate(folder.labels) if own == label]
        order = torch.randperm(len(members), generator=rng(seed, "linear-probe/labeled", label)).tolist()
        turns += [(turn, label, members[position]) for turn, position in enumerate(order)]
    order = [index for _, _, index in sorted(turns)]
    return folder.part(sorted(order[:labels])), folder.part(sorted(order[labels : labels + most]))


def probed(model: Model) -> dict[str, Layer]:
    """The layers of a model that are probed, by name: the end of each convolutional stage and the last hidden layer."""
    found = {layer.alias: layer for layer in layers(model) if layer.alias}
    last = hidden(model)
    return found | {last.address: last}


def pooled_features(values: Tensor, layer: Layer) -> Tensor:
    """The activations (N, ...) of a layer as features (N, D).

    A map is averaged over g x g windows, where g is the largest number with D <= MAX_FEATURES.
    """
    if not layer.is_map or layer.channels_last:
        return vectors(values, layer)
    side = max(1, min(math.isqrt(MAX_FEATURES // values.shape[1]), *values.shape[2:]))
    return F.adaptive_avg_pool2d(values, side).flatten(1)


@torch.inference_mode()
def read(model: Model, images: ImageDataset, chosen: Mapping[str, Layer], runtime: Runtime) -> dict[str, Tensor]:
    """Features (N, D) float32 of images of the model's size, by name of the layer, in one pass for all layers."""
    activations = Activations(model, [layer.address for layer in chosen.values()])
    parts: dict[str, list[Tensor]] = {name: [] for name in chosen}
    for indices in torch.arange(len(images)).split(BATCH):
        with runtime.autocast():
            values = activations(images.batch(indices).to(runtime.device))
        for name, layer in chosen.items():
            found = pooled_features(values[layer.address].float(), layer)
            parts[name].append(model.finite(found.cpu(), runtime))
    return {name: torch.cat(rows) for name, rows in parts.items()}


def probe(
    model: Model,
    classes: Sequence[str],
    learned: ImageDataset,
    tested: ImageDataset,
    runtime: Runtime,
    seed: int,
    report: Callable[[str], None] = lambda name: None,
) -> dict[str, Probe]:
    """Fit a linear classifier to each layer on the `learned` images, and evaluate it on the `tested` images.

    The layers are computed in fp32 whatever the precision of the runtime, so that accuracies can be compared.
    report(name) is called after each layer.
    """
    model.network.eval()
    runtime = replace(runtime, precision="fp32")
    chosen = probed(model)
    x, test = (read(model, images, chosen, runtime) for images in (learned, tested))
    fold = logistic.folds(learned.class_labels, FOLDS, seed)
    fold[fold >= HELD_OUT] = -1
    result = {}
    for name in chosen:
        problem = logistic.Problem(x[name][:, None], learned.class_labels, len(classes))
        losses = logistic.held_out_losses(problem, fold)
        (layer,) = logistic.solve(problem, [logistic.L2[int(losses.argmin())]])
        rows = zip(tested.class_labels.tolist(), layer.probabilities(test[name]), strict=True)
        result[name] = Probe(evaluate(classes, rows), losses.min().item())
        report(name)
    return result


def best(probes: Mapping[str, Probe]) -> str:
    """The layer with the least loss on held-out labeled images; the test images have no influence.

    Of layers with equal losses, such as all where nothing could be held out, the deepest.
    """
    return min(reversed(list(probes)), key=lambda name: probes[name].held_out_loss)

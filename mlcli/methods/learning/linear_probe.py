"""Linear probes (Alain & Bengio 2016): how well a linear classifier does on what a layer of a network says.

The network stays as it is. What it has learned shows beside the same probe on a network that has learned nothing.
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
from mlcli.models.features import Activations, hidden, layers, vectors
from mlcli.models.graph import Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import rng

NUMBERS = 1024  # that a probe is given of an image, at most
PARTS, TESTED = 5, 2  # l2 is chosen on so many parts of the labeled images
BATCH = 100  # images at a time


@dataclass(frozen=True)
class Probe:
    """A linear classifier of a layer. evaluation: on the tested images; held_out_loss: on some of the labeled."""

    evaluation: Evaluation
    held_out_loss: float

    @property
    def accuracy(self) -> float:
        return self.evaluation.correct / self.evaluation.count


def draw(folder: ClassFolder, labels: int, most: int, seed: int) -> tuple[ClassFolder, ClassFolder]:
    """(so many labeled images, the classes as even as can be; at most `most` of the others), by the seed."""
    turns: list[tuple[int, int, int]] = []  # an image of each class in turn
    for label in range(len(folder.classes)):
        members = [index for index, own in enumerate(folder.labels) if own == label]
        order = torch.randperm(len(members), generator=rng(seed, "linear-probe/labeled", label)).tolist()
        turns += [(turn, label, members[place]) for turn, place in enumerate(order)]
    order = [index for _, _, index in sorted(turns)]
    return folder.part(sorted(order[:labels])), folder.part(sorted(order[labels : labels + most]))


def probed(model: Model) -> dict[str, Layer]:
    """The layers of a model that are probed, by name: the end of each convolutional stage, and the last hidden one."""
    found = {layer.alias: layer for layer in layers(model) if layer.alias}
    last = hidden(model)
    return found | {last.address: last}


def numbers(values: Tensor, layer: Layer) -> Tensor:
    """Activations (N, ...) -> (N, D): a map averaged over g x g windows, g as great as D <= `NUMBERS` lets it be."""
    if not layer.is_map or layer.channels_last:
        return vectors(values, layer)
    side = max(1, min(math.isqrt(NUMBERS // values.shape[1]), *values.shape[2:]))
    return F.adaptive_avg_pool2d(values, side).flatten(1)


@torch.inference_mode()
def read(model: Model, images: ImageDataset, chosen: Mapping[str, Layer], runtime: Runtime) -> dict[str, Tensor]:
    """What the layers say of images of the model's size: name: (N, D) float32. One pass for all of them."""
    activations = Activations(model, [layer.address for layer in chosen.values()])
    parts: dict[str, list[Tensor]] = {name: [] for name in chosen}
    for indices in torch.arange(len(images)).split(BATCH):
        with runtime.autocast():
            values = activations(images.batch(indices).to(runtime.device))
        for name, layer in chosen.items():
            parts[name].append(model.finite(numbers(values[layer.address].float(), layer).cpu(), runtime))
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
    """How often a linear classifier of each layer, fitted to the `learned` images, is right on the `tested` ones.

    The layers are read in fp32 whatever the precision of the runtime: accuracies are to be compared with each other.
    """
    model.network.eval()
    runtime = replace(runtime, precision="fp32")
    chosen = probed(model)
    x, test = (read(model, images, chosen, runtime) for images in (learned, tested))
    fold = logistic.folds(learned.labels, PARTS, seed)
    fold[fold >= TESTED] = -1
    result = {}
    for name in chosen:
        problem = logistic.Problem(x[name][:, None], learned.labels, len(classes))
        losses = logistic.held_out_losses(problem, fold)
        (layer,) = logistic.solve(problem, [logistic.L2[int(losses.argmin())]])
        rows = zip(tested.labels.tolist(), layer.probabilities(test[name]), strict=True)
        result[name] = Probe(evaluate(classes, rows), losses.min().item())
        report(name)
    return result


def best(probes: Mapping[str, Probe]) -> str:
    """The layer whose classifier does best on labeled images that were held out; those to test on have no say.

    Of equals, such as all where nothing could be held out, the deepest.
    """
    return min(reversed(probes), key=lambda name: probes[name].held_out_loss)

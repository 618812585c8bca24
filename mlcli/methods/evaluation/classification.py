"""What a classifier says of images, and how often it is right."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import ImageError
from mlcli.io.decoding import map_images
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime


def probabilities(
    model: Model,
    paths: Sequence[Path],
    runtime: Runtime,
    *,
    mirrored: bool = False,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[tuple[Path, Tensor | ImageError]]:
    """(path, probabilities (classes,) float32 on the CPU) for each image in order; an ImageError for a bad one.

    mirrored: as in `predict`.
    """
    compute = partial(predict, model, runtime=runtime, mirrored=mirrored)
    return map_images(paths, model.preprocessing.prepare, compute, batch_size=batch_size, workers=workers)


@torch.inference_mode()
def predict(model: Model, images: Tensor, runtime: Runtime, *, mirrored: bool = False) -> Tensor:
    """(N, C, H, W), uint8 or float in [0, 1] -> probabilities (N, classes), float32 on the CPU.

    mirrored: by the mean of the logits of an image and of its mirror image. Raises WeightsError where the network's
    answer is no number.
    """
    images = images.to(runtime.device)
    with runtime.autocast():
        scores = torch.stack([model(view).float() for view in ([images, images.flip(-1)] if mirrored else [images])])
    return model.finite(scores.mean(0).softmax(1).cpu(), runtime)


def called(model: Model, images: Tensor, runtime: Runtime) -> Tensor:
    """The classes (N,) of gray or color images (N, 1 or 3, H, W), uint8 or in [0, 1], of any size."""
    return predict(model, model.prepared(images), runtime).argmax(1)


@dataclass(frozen=True)
class Evaluation:
    """How often a classifier is right on labeled images. confusion[i][j]: of class i, called j."""

    classes: tuple[str, ...]
    confusion: list[list[int]]
    top5: int

    @property
    def count(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def recalls(self) -> list[tuple[int, int]]:
        """(right, images) of each class that has any."""
        return [(row[index], sum(row)) for index, row in enumerate(self.confusion) if sum(row)]

    @property
    def balanced_accuracy(self) -> float:
        """The mean over the classes of how often each is right: what is common counts no more than what is rare."""
        return sum(right / count for right, count in self.recalls) / len(self.recalls)

    def as_json(self) -> dict:
        per_class = {
            name: {"accuracy": row[index] / sum(row), "count": sum(row)}
            for index, (name, row) in enumerate(zip(self.classes, self.confusion, strict=True))
            if sum(row)
        }
        return {
            "accuracy": self.correct / self.count,
            "interval": list(wilson(self.correct, self.count)),
            "balanced_accuracy": self.balanced_accuracy,
            "balanced_interval": list(balanced_interval(self.recalls)),
            "top5_accuracy": self.top5 / self.count,
            "count": self.count,
            "per_class": per_class,
            "confusion": self.confusion,
        }


def evaluate(classes: Sequence[str], answers: Iterable[tuple[int, Tensor]]) -> Evaluation:
    """Count (label, probabilities (classes,)) pairs."""
    confusion = [[0] * len(classes) for _ in classes]
    top5 = 0
    for label, row in answers:
        best = row.topk(min(5, len(classes))).indices.tolist()
        confusion[label][best[0]] += 1
        top5 += label in best
    return Evaluation(tuple(classes), confusion, top5)


def accuracy(model: Model, images: ImageDataset, runtime: Runtime, batch_size: int = 500) -> float:
    """Top-1 accuracy on labeled images of the model's size; the network is put in evaluation mode."""
    called = predictions(model, images, runtime, batch_size).argmax(1)
    return (called == images.labels).double().mean().item()


def predictions(model: Model, images: ImageDataset, runtime: Runtime, batch_size: int = 500) -> Tensor:
    """(N, classes) probabilities of images of the model's size; the network is put in evaluation mode."""
    model.network.eval()
    numbers = torch.arange(len(images)).split(batch_size)
    return torch.cat([predict(model, images.batch(indices), runtime) for indices in numbers])


def errors(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(the numbers of the images that are called wrongly, the surest errors first; what each image is called).

    probabilities: (N, classes), NaN for images of which nothing is said.  labels: (N,).
    """
    best, called = probabilities.max(1)
    wrong = ((called != labels) & best.isfinite()).nonzero()[:, 0]
    return wrong[best[wrong].argsort(descending=True, stable=True)], called


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927); (0, 1) for no observation."""
    if not count:
        return 0.0, 1.0
    p, n = successes / count, count
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def balanced_interval(recalls: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """95 % interval of the balanced accuracy of classes of which (right, images) were seen.

    It is the mean of independent proportions; the distances to the ends of their Wilson intervals add up as standard
    deviations do (Zou and Donner 2008, eq. 10), so that it is never outside of its own interval.
    """
    shares = [right / count for right, count in recalls]
    ends = [wilson(right, count) for right, count in recalls]
    mean = sum(shares) / len(shares)
    below = math.hypot(*(p - low for p, (low, _) in zip(shares, ends, strict=True))) / len(shares)
    above = math.hypot(*(high - p for p, (_, high) in zip(shares, ends, strict=True))) / len(shares)
    return max(0.0, mean - below), min(1.0, mean + above)

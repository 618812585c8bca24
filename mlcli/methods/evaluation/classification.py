"""Predictions of a classifier, and their accuracy."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import ImageError
from mlcli.imaging.decoding import map_images
from mlcli.imaging.memory_images import MemoryImage
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime


def probabilities(
    model: Model,
    paths: Sequence[Path | MemoryImage],
    runtime: Runtime,
    *,
    flipped: bool = False,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[tuple[Path | MemoryImage, Tensor | ImageError]]:
    """(path, probabilities (classes,) float32 on the CPU) for each image in order; an ImageError for an unreadable one.

    flipped: as in `predict`.
    """
    compute = partial(predict, model, runtime=runtime, flipped=flipped)
    how = model.preprocessing
    return map_images(paths, how.prepare, compute, batch_size=batch_size, workers=workers, read=how.read)


@torch.inference_mode()
def predict(model: Model, images: Tensor, runtime: Runtime, *, flipped: bool = False) -> Tensor:
    """Probabilities (N, classes), float32 on the CPU, of images (N, C, H, W), uint8 or float in [0, 1].

    flipped: whether to average the logits of each image and of its horizontal flip. Raises WeightsError if the output
    of the network is not finite.
    """
    images = images.to(runtime.device)
    with runtime.autocast():
        scores = torch.stack([model(view).float() for view in ([images, images.flip(-1)] if flipped else [images])])
    return model.finite(scores.mean(0).softmax(1).cpu(), runtime)


def predicted_classes(model: Model, images: Tensor, runtime: Runtime) -> Tensor:
    """Predicted classes (N,) of gray or color images (N, 1 or 3, H, W), uint8 or in [0, 1], of any size."""
    return predict(model, model.prepared(images), runtime).argmax(1)


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a classifier on labeled images.

    confusion[i][j]: number of images of class i that are predicted as j. top5: number of images whose class is among
    the five most probable. answered: (correct predictions, images) of each class, of those images alone whose most
    probable class has at least a wanted probability; None where none is wanted.
    """

    classes: tuple[str, ...]
    confusion: list[list[int]]
    top5: int
    answered: list[tuple[int, int]] | None = None

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Number of correct predictions."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def recalls(self) -> list[tuple[int, int]]:
        """(correct predictions, images) of each class that has images."""
        return [(row[index], sum(row)) for index, row in enumerate(self.confusion) if sum(row)]

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the accuracies of the classes, so that frequent and rare classes count the same."""
        return sum(correct / count for correct, count in self.recalls) / len(self.recalls)

    def _answers(self, per_class: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """How many images are unknown, and the accuracy on the others; these are added to the entries of classes too.

        The accuracy is None where no image is answered.
        """
        if self.answered is None:
            return {}
        for name, (correct, count) in zip(self.classes, self.answered, strict=True):
            if name in per_class:
                unknown = per_class[name]["count"] - count
                per_class[name] |= {"unknown": unknown, "answered_accuracy": correct / count if count else None}
        correct, count = (sum(column) for column in zip(*self.answered, strict=True))
        return {
            "unknown": self.count - count,
            "answered_accuracy": correct / count if count else None,
            "answered_interval": list(wilson(correct, count)),
        }

    def as_json(self) -> dict[str, Any]:
        """The figures with their 95 % intervals, for JSON."""
        per_class = {
            name: {"accuracy": row[index] / sum(row), "count": sum(row)}
            for index, (name, row) in enumerate(zip(self.classes, self.confusion, strict=True))
            if sum(row)
        }
        answers = self._answers(per_class)
        return {
            "accuracy": self.correct / self.count,
            "interval": list(wilson(self.correct, self.count)),
            "balanced_accuracy": self.balanced_accuracy,
            "balanced_interval": list(balanced_interval(self.recalls)),
            "top5_accuracy": self.top5 / self.count,
            "count": self.count,
            **answers,
            "per_class": per_class,
            "confusion": self.confusion,
        }


def evaluate(
    classes: Sequence[str], predictions: Iterable[tuple[int, Tensor]], min_probability: float = 0.0
) -> Evaluation:
    """Evaluate pairs of (label, probabilities (classes,)).

    min_probability: the least probability of the most probable class with which an image counts as answered.
    """
    confusion = [[0] * len(classes) for _ in classes]
    top5 = 0
    answered = [(0, 0)] * len(classes)
    for label, row in predictions:
        values, best = (found.tolist() for found in row.topk(min(5, len(classes))))
        confusion[label][best[0]] += 1
        top5 += label in best
        if values[0] >= min_probability:
            correct, count = answered[label]
            answered[label] = correct + (best[0] == label), count + 1
    return Evaluation(tuple(classes), confusion, top5, answered if min_probability > 0 else None)


def accuracy(model: Model, images: ImageDataset, runtime: Runtime, batch_size: int = 500) -> float:
    """Top-1 accuracy on labeled images of the model's size. Puts the network in evaluation mode."""
    predicted = predictions(model, images, runtime, batch_size).argmax(1)
    return (predicted == images.class_labels).double().mean().item()


def predictions(model: Model, images: ImageDataset, runtime: Runtime, batch_size: int = 500) -> Tensor:
    """Probabilities (N, classes) of images of the model's size. Puts the network in evaluation mode."""
    model.network.eval()
    batches = torch.arange(len(images)).split(batch_size)
    return torch.cat([predict(model, images.batch(indices), runtime) for indices in batches])


def errors(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(indices of the wrongly predicted images, the most confident errors first; predicted class of each image).

    probabilities: (N, classes), NaN for images without a prediction. labels: (N,).
    """
    best, predicted = probabilities.max(1)
    wrong = ((predicted != labels) & best.isfinite()).nonzero()[:, 0]
    return wrong[best[wrong].argsort(descending=True, stable=True)], predicted


def wilson(successes: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % confidence interval of a proportion (Wilson 1927); (0, 1) without observations.

    successes: number of successes; a fraction where it is a mean over several runs. z: normal quantile of the interval.
    """
    if not count:
        return 0.0, 1.0
    p, n = successes / count, count
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def balanced_interval(recalls: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """95 % confidence interval of the balanced accuracy. recalls: (correct predictions, images) of each class.

    The balanced accuracy is a mean of independent proportions. The distances to the ends of their Wilson intervals are
    added in quadrature (Zou and Donner 2008, eq. 10), so the estimate always lies in its interval.
    """
    proportions = [correct / count for correct, count in recalls]
    ends = [wilson(correct, count) for correct, count in recalls]
    mean = sum(proportions) / len(proportions)
    below = math.hypot(*(p - low for p, (low, _) in zip(proportions, ends, strict=True))) / len(proportions)
    above = math.hypot(*(high - p for p, (_, high) in zip(proportions, ends, strict=True))) / len(proportions)
    return max(0.0, mean - below), min(1.0, mean + above)

"""Calibration of a Siamese network by pairs of identities that it was not trained on, for both ways of training it."""

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.metric_learning import embedder, verification_results
from mlcli.methods.metric_learning.embedder import Calibration
from mlcli.methods.metric_learning.verification import Pairs, all_pairs, different_pairs
from mlcli.models import artifacts
from mlcli.reporting import sample_sheets
from mlcli.training.run_folder import Run

BATCH = 50  # images at a time, each in several views
SAMPLE_PAIRS, MOST_OF_ONE = 12, 2  # pairs of each kind in a sample, and of them with one identity, at most


class Calibrated(ABC):
    """A method whose `result` is calibrated on pairs of images of `validation`.

    asked: the false accept rate that the threshold is set for; None for the threshold of equal error.
    """

    validation: ImageDataset
    asked: float | None
    seed: int
    hyperparameters: dict[str, Any]  # for the file of the model

    @property
    @abstractmethod
    def result(self) -> embedder.Siamese:
        """The network as trained so far."""

    @property
    def different(self) -> int:
        """The number of pairs of different identities on which the threshold is calibrated."""
        return different_pairs(self.validation.class_labels)

    def compared(self) -> Pairs:
        """The distances of all pairs of the validation set, by the result."""
        result = self.result
        rows = torch.arange(len(self.validation)).split(BATCH)
        points = torch.cat([result.points(self.validation.batch(row)) for row in rows])
        return all_pairs(result, points, self.validation.class_labels, self.seed)

    def evaluate(self) -> dict[str, float]:
        found = Calibration.of(self.compared().roc, self.asked)
        return {"val_eer": found.equal_error, "val_auc": found.auc, "threshold": found.threshold}

    def samples(self) -> dict[str, Tensor | Image]:
        """The hardest pairs of the validation set: different identities that are near, and one identity that is far."""
        pairs = self.compared()
        found: dict[str, Tensor | Image] = {}
        for name, same in (("nearest-pairs-of-different-identities", False), ("farthest-pairs-of-one-identity", True)):
            chosen = hardest(pairs, self.validation.class_labels, same=same)
            numbers = zip(pairs.first[chosen].tolist(), pairs.second[chosen].tolist(), strict=True)
            distances = pairs.distances[chosen].tolist()
            drawn = [self._pair(*both, distance) for both, distance in zip(numbers, distances, strict=True)]
            found[name] = sample_sheets.pairs(drawn)
        return found

    def _pair(self, first: int, second: int, distance: float) -> sample_sheets.Pair:
        """Two images of the validation set with the names of their identities."""
        a, b = self.validation.batch(torch.tensor([first, second])).expand(-1, 3, -1, -1)
        names = (self.validation.paths[first].parent.name, self.validation.paths[second].parent.name)
        return sample_sheets.Pair((a, b), names, f"distance {distance:.3f}")

    def measured(self) -> dict[str, Any]:
        """What the result measures on the validation pairs, as `verification_results.results` has it."""
        pairs = self.compared()
        found = Calibration.of(pairs.roc, self.asked)
        return verification_results.results(pairs, found.threshold, found.equal_error)

    def save_model(self, run: Run) -> None:
        result = self.result
        result.calibration = Calibration.of(self.compared().roc, self.asked)
        artifacts.save(run.model_file, result.state(), result.describe() | {"config": self.hyperparameters})


def hardest(pairs: Pairs, identities: Tensor, *, same: bool) -> Tensor:
    """The indices of the hardest pairs of one identity, or of two, at most MOST_OF_ONE of which show the same identity.

    identities: (N,) of the images.  At most SAMPLE_PAIRS, the hardest first.
    """
    numbers = (pairs.same == same).nonzero()[:, 0]
    order = numbers[pairs.distances[numbers].argsort(descending=same, stable=True)]
    shown: Counter[int] = Counter()
    chosen: list[int] = []
    for number in order.tolist():
        both = {int(identities[pairs.first[number]]), int(identities[pairs.second[number]])}
        if all(shown[one] < MOST_OF_ONE for one in both):
            shown.update(both)
            chosen.append(number)
        if len(chosen) == SAMPLE_PAIRS:
            break
    return torch.tensor(chosen, dtype=torch.int64)

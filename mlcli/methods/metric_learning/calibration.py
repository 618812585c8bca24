"""Calibration of a Siamese network by pairs of identities that it was not trained on, for both ways of training it."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.metric_learning import embedder
from mlcli.methods.metric_learning.embedder import Calibration
from mlcli.methods.metric_learning.verification import Pairs, all_pairs, different_pairs
from mlcli.models import artifacts
from mlcli.reporting import canvas
from mlcli.training.run_folder import Run

BATCH = 50  # images at a time, each in several views
SAMPLE_PAIRS, COLUMNS = 12, 8  # pairs of each kind in a sample, images in a row of it


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
        """The hardest pairs of the validation set: different identities that are near, and one identity that is far.

        Two images side by side are a pair, with its distance.
        """
        pairs = self.compared()
        shown = []
        for same in (False, True):
            numbers = (pairs.same == same).nonzero()[:, 0]
            order = pairs.distances[numbers].argsort(descending=same)
            shown.append(numbers[order[:SAMPLE_PAIRS]])
        chosen = torch.cat(shown)
        images = torch.stack([pairs.first[chosen], pairs.second[chosen]], 1).flatten()
        kinds = ["different"] * len(shown[0]) + ["same"] * len(shown[1])
        labels = [
            label
            for kind, distance in zip(kinds, pairs.distances[chosen].tolist(), strict=True)
            for label in (kind, f"{distance:.3f}")
        ]
        tiles = self.validation.batch(images).expand(-1, 3, -1, -1)
        return {"hardest": canvas.grid(tiles, labels, columns=COLUMNS, side=72)}

    def save_model(self, run: Run) -> None:
        result = self.result
        result.calibration = Calibration.of(self.compared().roc, self.asked)
        artifacts.save(run.model_file, result.state(), result.describe() | {"config": self.hyperparameters})

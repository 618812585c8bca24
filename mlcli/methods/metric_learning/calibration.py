"""What the ways to a Siamese network share: pairs of identities that it has not seen, and what is told of them."""

from dataclasses import asdict

import torch
from PIL.Image import Image

from mlcli.data.image_dataset import ImageDataset
from mlcli.methods.metric_learning import configs, embedder
from mlcli.methods.metric_learning.embedder import Calibration
from mlcli.methods.metric_learning.verification import Pairs, all_pairs, different_pairs
from mlcli.reporting import canvas
from mlcli.training.run_folder import Run

BATCH = 50  # images at a time, each in several views
SHOWN, COLUMNS = 12, 8  # pairs of each kind in a sample, images in a row of it


class Calibrated:
    """A method whose `result` is calibrated by pairs of images of `validation`.

    asked: the false accept rate that the threshold is for; None for that of equal error.
    """

    result: embedder.Siamese
    validation: ImageDataset
    config: configs.Siamese | configs.Fisher
    asked: float | None

    @property
    def different(self) -> int:
        """Of how many pairs of different identities the threshold has to keep the rate."""
        return different_pairs(self.validation.labels)

    def compared(self) -> Pairs:
        """All pairs of the validation set by the result."""
        result = self.result
        rows = torch.arange(len(self.validation)).split(BATCH)
        points = torch.cat([result.points(self.validation.batch(row)) for row in rows])
        return all_pairs(result, points, self.validation.labels, self.config.seed)

    def evaluate(self) -> dict[str, float]:
        found = Calibration.of(self.compared().roc, self.asked)
        return {"val_eer": found.equal_error, "val_auc": found.auc, "threshold": found.threshold}

    def samples(self) -> dict[str, Image]:
        """The hardest pairs of the validation set: different identities that are near, and one that is far from itself.

        Two images side by side are a pair, with its distance.
        """
        pairs = self.compared()
        shown = []
        for of_one in (False, True):
            numbers = (pairs.same == of_one).nonzero()[:, 0]
            order = pairs.distances[numbers].argsort(descending=of_one)
            shown.append(numbers[order[:SHOWN]])
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
        run.save_model(result.state(), result.describe() | {"config": asdict(self.config)})

"""What the metrics of trainings are called in words."""

from typing import NamedTuple

FRACTIONS = ("accuracy", "auc", "eer", "dice", "flips")  # last words of metrics between 0 and 1
DIRECTIONS = ("AtoB", "BtoA", "A", "B")  # words in the names of metrics that are measured of two networks
WORDS = {  # of a quantity, as `Quantity.name` has it
    "loss_d": "loss of the discriminator",
    "discriminator": "loss of the discriminator",
    "loss_discriminator": "loss of the discriminator",
    "loss_d_masks": "loss of the discriminator of masks",
    "d_accuracy": "accuracy of the discriminator",
    "mask_accuracy": "accuracy of the discriminator of masks",
    "generator": "loss of the generator",
    "loss_gan": "adversarial loss",
    "loss_f": "adversarial loss of the encoder",
    "loss_refiner": "adversarial loss of the refiner",
    "loss_l1": "L1 loss",
    "loss_features": "feature-matching loss",
    "loss_cycle": "cycle-consistency loss",
    "loss_identity": "identity loss",
    "loss_semantic": "semantic-consistency loss",
    "loss_regularization": "self-regularization loss",
    "frechet": "Fréchet distance",
    "kernel": "kernel distance",
    "eer": "equal error rate",
    "auc": "area under the ROC curve",
    "threshold": "threshold of the distance",
    "l1": "L1 error",
    "cycle": "cycle-consistency error",
    "flips": "label flips",
    "views": "squared distance of the views of an image from their mean",
}


class Quantity(NamedTuple):
    """What a metric measures, and of what: val_accuracy is (accuracy, validation), loss_d_AtoB is (loss_d, AtoB).

    Metrics of one quantity share a chart.
    """

    name: str
    of: str

    @property
    def words(self) -> str:
        """The quantity as a reader calls it."""
        return WORDS.get(self.name, self.name.replace("_", " "))

    @property
    def is_fraction(self) -> bool:
        """Whether its values are between 0 and 1 by definition."""
        return self.name.endswith(FRACTIONS)


def quantity(metric: str) -> Quantity:
    """The quantity of a metric, by its name in metrics.jsonl."""
    held_out, name = metric.startswith("val_"), metric.removeprefix("val_")
    words = name.split("_")
    kept = [word for word in words if word not in DIRECTIONS]
    directions = [word for word in words if word in DIRECTIONS]
    if not kept:
        return Quantity(name, "validation" if held_out else "training")
    of = [*directions, *(["validation"] if held_out else [] if directions else ["training"])]
    return Quantity("_".join(kept), ", ".join(of))


def shown(name: str, value: float | None) -> str:
    """A value of a metric as a reader wants it: rates in percent, areas and other numbers with four digits."""
    if value is None:
        return "not a finite number"
    of = quantity(name)
    return f"{value:.2%}" if of.is_fraction and of.name != "auc" else f"{value:.4g}"

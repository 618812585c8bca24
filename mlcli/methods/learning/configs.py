"""Hyperparameters of the training of classifiers; loads no torch, for the sake of --help."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from mlcli.options import DATA, METHOD, TRAINING, option

if TYPE_CHECKING:
    from mlcli.models.sources.source import TrainingDefaults

OPTIMIZERS = ("muon", "sgd")
SCHEDULES = ("one-cycle", "cosine", "constant")


def goes_by_epochs(options: Mapping[str, Any]) -> bool:
    """Whether a run has as many epochs as --epochs says, and not --steps."""
    return options.get("steps") is None


def tunes_stages(options: Mapping[str, Any]) -> bool:
    """Whether a run of `mlcli finetune` trains more than the last layer."""
    return options["freeze"] != "all"


@dataclass(frozen=True)
class Supervised:
    """`mlcli train`; mlcli/weights/cifarnet.md says with which of them the embedded network was trained."""

    epochs: int = option(
        30, "Number of passes over the training set.", minimum=1, panel=TRAINING, applies=goes_by_epochs
    )
    batch_size: int = option(1000, "Number of images per training step.", minimum=2, panel=TRAINING)
    optimizer: str = option("muon", "Optimizer of the weights.", choices=OPTIMIZERS, panel=TRAINING)
    lr: float = option(0.08, "Highest learning rate.", minimum=0, panel=TRAINING)
    momentum: float = option(
        0.85,
        "Momentum of the optimizer.",
        minimum=0,
        maximum=1,
        panel=TRAINING,
        applies=lambda options: options["optimizer"] in OPTIMIZERS,  # Adam has its own
    )
    weight_decay: float = option(5e-4, "Weight decay, as a factor on the weights.", minimum=0, panel=TRAINING)
    label_smoothing: float = option(
        0.1, "Probability that label smoothing spreads over all classes.", minimum=0, maximum=1, panel=METHOD
    )
    schedule: str = option("one-cycle", "Schedule of the learning rate.", choices=SCHEDULES, panel=TRAINING)
    flip: bool = option(
        True,
        "Flip images from left to right at random; turn off for digits and letters.",
        "--flip/--no-flip",
        panel=METHOD,
    )
    shift: int = option(4, "Largest random shift in pixels.", minimum=0, panel=METHOD)
    cutout: int = option(8, "Side of the square that is hidden at random, in pixels.", minimum=0, panel=METHOD)
    cutmix: float = option(
        0.0, "Fraction of images into which a piece of another one is pasted.", minimum=0, maximum=1, panel=METHOD
    )
    balanced: bool = option(
        False, "Weight classes so that all count the same, however many images each has.", panel=DATA
    )
    seed: int = 0


Config = TypeVar("Config", bound=Supervised)


def supervised(
    options: Mapping[str, Any], images: int, defaults: "TrainingDefaults", batch_norm: bool, kind: type[Config]
) -> Config:
    """The hyperparameters of these options; what they leave open (None) goes by the model and the number of images."""
    given = {field.name: options.get(field.name) for field in fields(kind)}
    config = kind(**{name: value for name, value in given.items() if value is not None})
    # Muon scales weights freely, which only a batch norm after each of them allows.
    optimizer = given["optimizer"] or defaults.optimizer
    batch_size = given["batch_size"] or max(2, min(defaults.largest_batch, images // 20 // 2 * 2))
    # A small batch is a noisy one. Muon's step has the same length however noisy its gradient is, SGD's has not.
    taken = min(batch_size, images)  # a batch holds no image twice, however large it is asked for
    muon = Supervised.lr * min(1, taken / Supervised.batch_size) ** 0.5
    sgd = (0.1 if batch_norm else 0.01) * taken / 256
    lr = given["lr"] if given["lr"] is not None else muon if optimizer == "muon" else sgd
    return replace(config, optimizer=optimizer, batch_size=batch_size, lr=lr)


def gentler(config: Config, lr: float | None, batch_norm: bool, images: int) -> Config:
    """The hyperparameters for a network that starts from known weights: SGD at a tenth of the learning rate.

    Muon would whiten the first kernels again. lr: the learning rate that was asked for, if any.
    """
    sgd = (0.1 if batch_norm else 0.01) * min(config.batch_size, images) / 256
    return replace(config, optimizer="sgd", lr=0.1 * sgd if lr is None else lr)


SCARCE = 2000  # images, up to which an estimate by cross-validation is worth its time


@dataclass(frozen=True)
class Finetune(Supervised):
    """`mlcli finetune`: training of the stages below the last layer. The last layer itself is solved in closed form."""

    epochs: int = option(
        20,
        "Number of passes over the training set, for the layers below the last one.",
        minimum=1,
        panel=TRAINING,
        applies=tunes_stages,
    )
    batch_size: int = option(64, "Number of images per training step.", minimum=2, panel=TRAINING, applies=tunes_stages)
    optimizer: str = option(
        "adamw", "Optimizer of the weights.", choices=("adamw", *OPTIMIZERS), panel=TRAINING, applies=tunes_stages
    )
    lr: float = option(
        3e-4, "Highest learning rate, that of the topmost stage.", minimum=0, panel=TRAINING, applies=tunes_stages
    )
    decay: float = option(
        0.5,
        "Learning rate of a stage relative to that of the stage above it.",
        minimum=0,
        maximum=1,
        panel=TRAINING,
        applies=tunes_stages,
    )
    weight_decay: float = option(
        0.01, "Weight decay, as a factor on the weights.", minimum=0, panel=TRAINING, applies=tunes_stages
    )
    label_smoothing: float = 0.0
    schedule: str = option(
        "cosine", "Schedule of the learning rate.", choices=SCHEDULES, panel=TRAINING, applies=tunes_stages
    )
    cutout: int = 0
    freeze: str = option(
        "all",
        "Layers that keep their weights: all but the last one, none, or those up to a stage such as conv3.",
        metavar="all|none|STAGE",
        panel=METHOD,
    )
    copies: int = option(
        1,
        "Number of flipped and shifted copies of each image, from which the last layer learns too.",
        minimum=0,
        maximum=100,
        panel=METHOD,
    )


@dataclass(frozen=True)
class Pretext(Supervised):
    """`mlcli pretext`: training on a task whose labels come with the images."""

    task: str = option(
        "rotation",
        "Pretext task: the rotation of an image, or the order of its shuffled tiles.",
        choices=("rotation", "jigsaw"),
        panel=METHOD,
    )
    epochs: int = option(10, "Number of passes over the images.", minimum=1, panel=TRAINING, applies=goes_by_epochs)
    cutout: int = 0
    label_smoothing: float = 0.0
    permutations: int = option(
        30,
        "Number of classes of the jigsaw, the orders of its tiles.",
        minimum=2,
        maximum=1000,
        panel=METHOD,
        applies=lambda options: options["task"] == "jigsaw",
    )

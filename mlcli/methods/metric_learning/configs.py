"""Hyperparameters of metric learning. Free of torch, since the command line reads it for --help."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlcli.options import DATA, METHOD, NETWORK, TRAINING, option

# Losses, with the default of the margin between the distances of the same and of different identities
MARGINS = {"softmax": 0.0, "triplet": 0.2, "contrastive": 1.0, "weighted-l1": 0.0}
FISHER = "fisher"  # in place of a loss: a metric that is solved for
OF_LOSSES = {"margin": ("softmax", "triplet", "contrastive"), "softmax_scale": ("softmax",)}  # options of some losses
OPTIMIZERS = ("muon", "adamw")
# Learning rates of AdamW: for networks trained from scratch, with or without Muon, and for pretrained networks
ADAMW_LR, PRETRAINED_LR = 2e-3, 3e-4


def is_trained(options: Mapping[str, Any]) -> bool:
    """Whether a run trains a network step by step, by one of the losses."""
    return options["loss"] != FISHER


@dataclass(frozen=True)
class Siamese:
    """`mlcli siamese-train`; the distortions are those of data.distortions.

    A batch holds `images_per_identity` images of each of `identities`. margin: None for the default of the loss
    (MARGINS).
    """

    loss: str = option(
        "softmax",
        "Loss of the distances; fisher computes a metric in closed form, from the feature maps of a trained --model.",
        choices=(*MARGINS, FISHER),
        panel=METHOD,
    )
    dimension: int = option(
        128,
        "Dimension of the embedding, the number of outputs of the encoder.",
        minimum=2,
        panel=NETWORK,
        applies=is_trained,
    )
    identities: int = option(32, "Number of identities in a batch.", minimum=2, panel=TRAINING, applies=is_trained)
    images_per_identity: int = option(
        4, "Number of images of each identity in a batch.", minimum=2, panel=TRAINING, applies=is_trained
    )
    steps: int = option(2000, "Number of training steps.", minimum=1, panel=TRAINING, applies=is_trained)
    margin: float | None = option(
        None,
        "Margin of the loss between the distances of the same and of different identities.",
        minimum=0,
        shown_default=", ".join(f"{MARGINS[loss]:g} for {loss}" for loss in OF_LOSSES["margin"]),
        panel=METHOD,
        applies=lambda options: options["loss"] in OF_LOSSES["margin"],
    )
    softmax_scale: float = option(
        16.0,
        "Factor of the cosines in the softmax loss.",
        minimum=0.1,
        panel=METHOD,
        applies=lambda options: options["loss"] in OF_LOSSES["softmax_scale"],
    )
    optimizer: str = option("muon", "Optimizer of the weights.", choices=OPTIMIZERS, panel=TRAINING, applies=is_trained)
    lr: float = option(0.05, "Highest learning rate.", minimum=0, panel=TRAINING, applies=is_trained)
    weight_decay: float = 0.01
    schedule: str = "one-cycle"
    ema: float = 0.99
    rotation: float = option(15.0, "Largest random rotation in degrees.", minimum=0, panel=METHOD, applies=is_trained)
    scale: float = option(
        0.2,
        "Largest random scaling, as the logarithm of the factor of a side.",
        minimum=0,
        panel=METHOD,
        applies=is_trained,
    )
    shear: float = option(
        0.2, "Largest random shear, as the tangent of the angle.", minimum=0, panel=METHOD, applies=is_trained
    )
    shift: float = option(
        0.1, "Largest random shift, as a fraction of the side.", minimum=0, panel=METHOD, applies=is_trained
    )
    warp: float = option(
        0.05,
        "Standard deviation of the random smooth warp, as a fraction of the side.",
        minimum=0,
        panel=METHOD,
        applies=is_trained,
    )
    contrast: float = option(
        0.3,
        "Largest random change of contrast, as the logarithm of the factor.",
        minimum=0,
        panel=METHOD,
        applies=is_trained,
    )
    orientations: int = option(
        1,
        "Number of orientations of an image that count as identities of their own: "
        "4 for rotations by quarter turns, 8 for their flips too.",
        metavar="1|4|8",
        panel=DATA,
        applies=is_trained,
    )
    flip: bool = option(
        False, "Treat a flipped image as the same identity, as that of a face is.", "--flip", panel=DATA
    )
    content: bool = option(
        False, "Crop images to what stands out from their border, as ink does from paper.", "--content", panel=DATA
    )
    views: int = option(
        5,
        "Number of slightly rotated and scaled views of an image over which the result averages.",
        minimum=1,
        maximum=5,
        panel=METHOD,
    )
    seed: int = 0


@dataclass(frozen=True)
class Fisher:
    """`mlcli siamese-train --loss fisher`. between, shrinkage: beta and lambda of methods.metric_learning.fisher.

    folds: number of parts of the identities for cross-validation. The other fields are as in Siamese.
    """

    layer: str = option(
        "conv2",
        "Layer whose feature maps --loss fisher compares.",
        panel=NETWORK,
        completes="layer",
        applies=lambda options: options["loss"] == FISHER,
    )
    between: float = 0.1
    shrinkage: float = 0.1
    folds: int = 5
    batch_size: int = 20
    flip: bool = False
    content: bool = False
    views: int = 5
    seed: int = 0

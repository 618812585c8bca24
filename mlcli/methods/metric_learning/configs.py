"""Hyperparameters of metric learning; loads no torch, for the sake of --help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Siamese:
    """`mlcli siamese-train`; the distortions are those of data.distortions.

    A batch holds `images` of each of `identities`. margin: None is that of the loss. orientations: 4 makes identities
    of their own of turned images, 8 of mirrored ones too. flip: a mirrored image is of the same identity. content:
    images are cut to what stands out from their border. views: over which the result averages.
    """

    loss: str = "softmax"
    dimension: int = 128
    identities: int = 32
    images: int = 4
    steps: int = 2000
    margin: float | None = None
    softmax_scale: float = 16.0
    optimizer: str = "muon"
    lr: float = 0.05
    weight_decay: float = 0.01
    schedule: str = "one-cycle"
    ema: float = 0.99
    rotation: float = 15.0
    scale: float = 0.2
    shear: float = 0.2
    shift: float = 0.1
    warp: float = 0.05
    contrast: float = 0.3
    orientations: int = 1
    flip: bool = False
    content: bool = False
    views: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Fisher:
    """`mlcli siamese-train --loss fisher`. between, shrinkage: beta and lambda of methods.metric_learning.fisher.

    folds: of identities, each left out once. The other fields are as in Siamese.
    """

    layer: str = "conv2"
    between: float = 0.1
    shrinkage: float = 0.1
    folds: int = 5
    batch_size: int = 20
    flip: bool = False
    content: bool = False
    views: int = 5
    seed: int = 0


# Rates of AdamW: of what learns beside Muon or without it, and of a backbone that has learned already
RATE, RATE_OF_BACKBONE = 2e-3, 3e-4
MARGINS = {"softmax": 0.0, "triplet": 0.2, "contrastive": 1.0, "weighted-l1": 0.0}

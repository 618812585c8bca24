"""Hyperparameters of metric learning. Free of torch, since the command line reads it for --help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Siamese:
    """`mlcli siamese-train`; the distortions are those of data.distortions.

    A batch holds `images` of each of `identities`. margin: None for the default of the loss (MARGINS). orientations:
    with 4, images rotated by quarter turns count as identities of their own; with 8, flipped ones as well. flip: random
    flips, which keep the identity. content: images are cropped to what stands out from their border. views: of an image
    over which the result averages.
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

    folds: number of parts of the identities for cross-validation. The other fields are as in Siamese.
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


# Learning rates of AdamW: for networks trained from scratch, with or without Muon, and for pretrained networks
ADAMW_LR, PRETRAINED_LR = 2e-3, 3e-4
MARGINS = {"softmax": 0.0, "triplet": 0.2, "contrastive": 1.0, "weighted-l1": 0.0}

"""The options of the training methods and their defaults; without torch, since the command line reads it for --help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Supervised:
    """`mlcli train`; the defaults made the embedded network."""

    epochs: int = 30
    batch_size: int = 1000
    optimizer: str = "muon"
    lr: float = 0.08
    momentum: float = 0.85
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    schedule: str = "one-cycle"
    flip: bool = True
    translate: int = 4
    cutout: int = 8
    cutmix: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Maximization:
    """`mlcli maximize`; jitter and scale are shares, rotation is in degrees (see engine.pixels.Transforms)."""

    steps: int = 128
    lr: float = 0.05
    param: str = "fourier"
    jitter: float = 0.1
    scale: float = 0.1
    rotation: float = 10.0
    seed: int = 0

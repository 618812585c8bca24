"""Hyperparameters of activation maximization, by network and start; loads no torch, for the sake of --help."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Maximization:
    """`mlcli maximize`, of networks for photographs.

    decay: the fraction of the learning rate that is left at the end. exponent: of the scale of the frequencies (see
    visualization.parametrization.Fourier). jitter and scale are fractions, rotation is in degrees.
    octaves: sizes at which the image is optimized one after the other; steps are those of all of them. None is one,
    but for a class so many that the first is about the fraction `first` of the model's own size: what is large there
    fills the image.
    """

    steps: int = 160
    lr: float = 0.1
    decay: float = 0.1
    param: str = "fourier"
    exponent: float = 1.25
    jitter: float = 0.1
    scale: float = 0.25
    rotation: float = 10.0
    octaves: int | None = None
    first: float = 0.7
    seed: int = 0


SMALL = 64  # pixels, the side of images up to which a network is one of small images
# A network of small images: few frequencies, of which the finest are those of things as well
SMALL_IMAGES = Maximization(steps=128, lr=0.05, decay=1.0, exponent=1.0, scale=0.1, first=1.0)
# Of layers that see little of a photograph: their patterns are fine, and transforms between the pixels blur them
FINE = Maximization(lr=0.2, jitter=0.0, scale=0.0, rotation=0.0)
LITTLE = 1 / 3  # of the side, what they see at most
# From an image of one's own (DeepDream, Mordvintsev et al. 2015)
DREAM = Maximization(steps=96, octaves=4, scale=0.0, rotation=0.0)


def maximization(side: int, *, field: float = inf, dream: bool = False) -> Maximization:
    """The hyperparameters for a network of images of this side.

    field: the side of what the units of the objective see, in pixels. dream: for starting from an image instead of
    noise.
    """
    if dream:
        return DREAM
    if side <= SMALL:
        return SMALL_IMAGES
    return FINE if field <= LITTLE * side else Maximization()

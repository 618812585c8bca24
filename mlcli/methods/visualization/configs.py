"""Hyperparameters of activation maximization, by network and start; loads no torch, for the sake of --help."""

from dataclasses import dataclass
from math import inf

from mlcli.options import METHOD, TRAINING, option


@dataclass(frozen=True)
class Maximization:
    """Hyperparameters of `mlcli maximize`; the defaults are those for networks of photographs.

    decay: the fraction of the learning rate that is left at the end. exponent: of the scale of the frequencies (see
    visualization.parametrization.Fourier). octaves: None is one, but for a class so many that the first is about the
    fraction `first` of the model's own size: what is large there fills the image.
    """

    steps: int = option(160, "Number of optimization steps, over all octaves.", minimum=1, panel=TRAINING)
    lr: float = option(0.1, "Learning rate of Adam.", minimum=0, maximum=1000, panel=TRAINING)
    decay: float = 0.1
    param: str = option(
        "fourier",
        "Parametrization of the image: frequencies, pixels, or the phases of a fixed magnitude spectrum (MACO).",
        choices=("fourier", "pixel", "maco"),
        panel=METHOD,
    )
    exponent: float = 1.25
    jitter: float = option(
        0.1,
        "Largest random shift at each step, as a fraction of the side.",
        minimum=0,
        maximum=1,
        panel=METHOD,
    )
    scale: float = option(
        0.25, "Largest random change of scale at each step, as a fraction.", minimum=0, maximum=0.9, panel=METHOD
    )
    rotation: float = option(10.0, "Largest random rotation at each step in degrees.", minimum=0, panel=METHOD)
    octaves: int | None = option(
        None,
        "Number of sizes, each 1.4 times the one before, at which the image is optimized in turn.",
        minimum=1,
        maximum=12,
        panel=METHOD,
    )
    first: float = 0.7
    seed: int = 0


SMALL = 64  # pixels, the side of images up to which a network is one of small images
# A network of small images: there are few frequencies, and even the finest belong to the shapes of objects
SMALL_IMAGES = Maximization(steps=128, lr=0.05, decay=1.0, exponent=1.0, scale=0.1, first=1.0)
# Layers that see little of a photograph: their patterns are fine, and the interpolation of random transforms blurs them
FINE = Maximization(lr=0.2, jitter=0.0, scale=0.0, rotation=0.0)
LITTLE = 1 / 3  # the receptive field of such a layer is at most this fraction of the side
# From a given image (DeepDream, Mordvintsev et al. 2015)
DREAM = Maximization(steps=96, octaves=4, scale=0.0, rotation=0.0)
# Of phases, which are angles (Fel et al. 2023); random crops take the place of the other transforms
MACO = Maximization(steps=128, lr=0.3, param="maco", octaves=1, jitter=0.0, scale=0.0, rotation=0.0)


@dataclass(frozen=True)
class Inversion:
    """Hyperparameters of the inversion of a layer.

    alpha: the exponent of the norm that bounds the values, with its weight. beta: that of the total variation.
    """

    steps: int = 160
    lr: float = 0.05
    decay: float = 0.1
    param: str = "fourier"
    alpha: float = 6
    alpha_weight: float = 0.05
    beta: float = 2
    tv_weight: float = 1.0
    seed: int = 0


def maximization(side: int, *, field: float = inf, dream: bool = False, maco: bool = False) -> Maximization:
    """The hyperparameters for a network of images of this side.

    field: side of the largest receptive field of the objective's units, in pixels. dream: whether the optimization
    starts from a given image instead of noise. maco: whether phases are optimized.
    """
    if maco:
        return MACO
    if dream:
        return DREAM
    if side <= SMALL:
        return SMALL_IMAGES
    return FINE if field <= LITTLE * side else Maximization()

"""Hyperparameters of the explanations; loads no torch, for the sake of --help."""

from dataclasses import dataclass

from mlcli.options import METHOD, option

# In the order of the help; `registry.METHODS` has a function for each.
NAMES = (
    "grad-cam",
    "layer-cam",
    "integrated-gradients",
    "smoothgrad",
    "occlusion",
    "rise",
    "deconvnet",
    "guided-backprop",
    "guided-grad-cam",
)
BASELINES = ("black", "blurred", "mean")  # of integrated gradients; all other values are files of images
TOLERANCE = 0.005  # of completeness: the largest error as a fraction of the difference that is explained


@dataclass(frozen=True)
class Explaining:
    """Hyperparameters of `mlcli explain`; sides are in pixels of the image that the network is given.

    window, stride: None are a seventh of the image's side, and half of the window.
    """

    baseline: str = option(
        "black",
        "Start of the path of integrated gradients: black, blurred, mean (of the training data), or an image file.",
        panel=METHOD,
    )
    path_steps: int | None = option(
        None,
        "Number of points on the path of integrated gradients, by Gauss-Legendre quadrature.",
        minimum=1,
        maximum=4096,
        shown_default=f"as many as bring the error of completeness to {TOLERANCE:.1%}",
        panel=METHOD,
    )
    samples: int = option(25, "Number of noisy copies of an image for SmoothGrad.", minimum=1, panel=METHOD)
    noise: float = option(
        0.15,
        "Standard deviation of the noise of SmoothGrad, as a fraction of the image's range of values.",
        minimum=0,
        maximum=10,
        panel=METHOD,
    )
    window: int | None = option(
        None,
        "Side of the gray square of occlusion in pixels.",
        minimum=1,
        shown_default="a seventh of the image's side",
        panel=METHOD,
    )
    stride: int | None = option(
        None,
        "Distance between positions of the gray square in pixels.",
        minimum=1,
        shown_default="half of --window",
        panel=METHOD,
    )
    masks: int = option(1000, "Number of random masks of RISE.", minimum=1, maximum=1_000_000, panel=METHOD)
    seed: int = 0

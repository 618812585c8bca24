"""Hyperparameters of painting, by network and mode; loads no torch, for the sake of --help."""

from dataclasses import dataclass

from mlcli.options import COMPUTING, METHOD, NETWORK, OUTPUT, TRAINING, option


@dataclass(frozen=True)
class Analogy:
    """`mlcli analogy`; the defaults learn a filter, ANALOGIES has those of every mode.

    inputs: the images that the mode takes. texture: whether A' is a texture that is synthesized, not an image to be
    matched.
    """

    inputs: tuple[str, ...] = ("A", "A_PRIME", "B")
    texture: bool = False
    match: str = option(
        "luminance", "Features of A and B that are compared.", choices=("luminance", "color"), panel=METHOD
    )
    color: str = option(
        "auto",
        "Source of the colors: B or A'; auto takes those of B unless A' has other colors than A.",
        choices=("auto", "b", "a-prime"),
        panel=METHOD,
    )
    remap: str = option(
        "none",
        "Luminance remapping: brings B (b) or A and A' (a) to the brightness and contrast of the other.",
        choices=("none", "a", "b"),
        panel=METHOD,
    )
    kappa: float = option(0.5, "Weight of coherence; a larger one copies larger pieces of A'.", minimum=0, panel=METHOD)
    source_weight: float = option(
        3.0,
        "Weight of the similarity between A and B relative to that between A' and B'.",
        minimum=0,
        maximum=1e6,
        panel=METHOD,
    )
    levels: int = option(5, "Largest number of pyramid levels.", minimum=1, panel=METHOD)
    passes: int = option(2, "Number of passes over each level.", minimum=1, panel=METHOD)
    seed: int = 0


ANALOGIES = {
    "filter": Analogy(),
    "texture-transfer": Analogy(
        ("TEXTURE", "B"), texture=True, color="a-prime", remap="b", kappa=2.0, source_weight=0.3, passes=4
    ),
    "texture-synthesis": Analogy(("TEXTURE",), texture=True, color="a-prime", kappa=2.0, source_weight=0.0, passes=4),
    # Over a flat color nothing but A' guides the coarse levels, which then repeat the few patches that fit best
    "texture-by-numbers": Analogy(
        texture=True, match="color", color="a-prime", kappa=6.0, source_weight=1.0, levels=3, passes=4
    ),
}


@dataclass(frozen=True)
class Stylize:
    """`mlcli stylize`, on a network that is not tuned below."""

    content_layers: tuple[tuple[str, float], ...] = ()  # none: the last convolutional stage but one
    style_layers: tuple[tuple[str, float], ...] = ()  # none: all convolutional stages
    alpha: float = option(
        0.05, "Fraction of the content in the loss; the style has the rest.", minimum=0, maximum=1, panel=METHOD
    )
    tv: float = option(
        2.0, "Weight of the total variation, which smooths the image.", minimum=0, maximum=1e6, panel=METHOD
    )
    style_loss: str = option(
        "gram",
        "Style loss: gram compares Gram matrices; gaussian compares means and covariances.",
        choices=("gram", "gaussian"),
        panel=METHOD,
    )
    optimizer: str = option(
        "adam", "Optimizer of the pixels; lbfgs is that of the paper.", choices=("adam", "lbfgs"), panel=TRAINING
    )
    lr: float = option(0.02, "Learning rate of Adam.", minimum=0, maximum=1000, panel=TRAINING)
    averaging: float = option(
        0.99, "Decay of the average over the iterates.", minimum=0, maximum=0.9999, panel=TRAINING
    )
    size: int = option(512, "Long side of the result in pixels.", minimum=8, panel=OUTPUT)
    smallest: int = 128
    factor: float = 2**0.5
    scales: tuple[int, ...] = ()  # none: from `smallest` to `size` by `factor`
    steps: tuple[int, ...] = (1000, 500)
    style_scale: float = option(
        1.0,
        "Size of the style image relative to the result; the style is never enlarged.",
        minimum=0.05,
        panel=METHOD,
    )
    pooling: str = option(
        "max",
        "Pooling of the network; average replaces its max pooling, as in the paper.",
        choices=("max", "average"),
        panel=NETWORK,
    )
    init: str = option(
        "content", "Initial image: content, noise, gray, style, or the file of an image.", cli_type=str, panel=METHOD
    )
    keep_colors: bool = option(
        False, "Keep the colors of the content, so that only the luminance is painted.", panel=METHOD
    )
    tile: int = option(
        512, "Side of the tiles of a large image in pixels, which sets the memory used.", minimum=64, panel=COMPUTING
    )
    seed: int = 0


# relu1_1, relu2_1, relu3_1, relu4_1, relu5_1, a fifth each, and relu4_2 (Gatys et al. 2016)
VGG19 = Stylize(
    content_layers=(("features.22", 1.0),),
    style_layers=tuple((f"features.{number}", 1.0) for number in (1, 6, 11, 20, 29)),
)
VGG16 = Stylize(
    content_layers=(("features.20", 1.0),),
    style_layers=tuple((f"features.{number}", 1.0) for number in (1, 6, 11, 18, 25)),
)
CIFARNET = Stylize(
    content_layers=(("conv4", 1.0),),
    style_layers=tuple((f"conv{number}", 1.0) for number in (1, 2, 3, 4, 5)),
    alpha=0.2,
    style_loss="gaussian",
    averaging=0.9,
    lr=0.03,
    size=384,
    smallest=96,
    factor=2.0,
    steps=(100,),
)
STYLIZE = {"vgg19": VGG19, "vgg16": VGG16, "cifarnet": CIFARNET}


def stylize(architecture: str) -> Stylize:
    """The config for a network; one of another architecture takes the settings of VGG with its own stages."""
    return STYLIZE.get(architecture, Stylize())

"""Hyperparameters of painting, by network and mode; loads no torch, for the sake of --help."""

from dataclasses import dataclass

from mlcli.options import METHOD, option


@dataclass(frozen=True)
class Analogy:
    """`mlcli analogy`; the defaults learn a filter, ANALOGIES has those of every mode.

    inputs: the images that the mode takes. texture: A' is a texture to be laid out anew, not an image to be matched.
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
    alpha: float = 0.05
    tv: float = 2.0
    style_loss: str = "gram"
    optimizer: str = "adam"
    lr: float = 0.02
    averaging: float = 0.99
    size: int = 512
    smallest: int = 128
    factor: float = 2**0.5
    scales: tuple[int, ...] = ()  # none: from `smallest` to `size` by `factor`
    steps: tuple[int, ...] = (1000, 500)
    style_scale: float = 1.0
    pooling: str = "max"
    init: str = "content"
    keep_colors: bool = False
    tile: int = 512
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

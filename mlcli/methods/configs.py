"""The options of the training methods and their defaults; without torch, since the command line reads it for --help."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf


@dataclass(frozen=True)
class Supervised:
    """`mlcli train`; mlcli/weights/cifarnet.md says with which of them the embedded network was made."""

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
    balanced: bool = False
    seed: int = 0


def supervised(
    options: Mapping, images: int, architecture: str, batch_norm: bool, kind: type[Supervised] = Supervised
) -> Supervised:
    """The config of these options, with what they leave open (None) decided by the model and the number of images."""
    given = {field.name: options.get(field.name) for field in fields(kind)}
    config = kind(**{name: value for name, value in given.items() if value is not None})
    # Muon scales weights freely, which only a batch norm after each of them allows.
    own = architecture == "cifarnet"
    optimizer = given["optimizer"] or (config.optimizer if own else "sgd")
    largest = config.batch_size if own else 64  # of images of 224 pixels, by which memory is filled
    batch_size = given["batch_size"] or max(2, min(largest, images // 20 // 2 * 2))
    # A small batch is a noisy one. Muon's step has the same length however noisy its gradient is, SGD's has not.
    taken = min(batch_size, images)  # a batch holds no image twice, however large it is asked for
    muon = Supervised.lr * min(1, taken / Supervised.batch_size) ** 0.5
    sgd = (0.1 if batch_norm else 0.01) * taken / 256
    rate = given["lr"] if given["lr"] is not None else muon if optimizer == "muon" else sgd
    return replace(config, optimizer=optimizer, batch_size=batch_size, lr=rate)


def gentler(config: Supervised, lr: float | None, batch_norm: bool, images: int) -> Supervised:
    """The hyperparameters for a network that begins from known weights: SGD at a tenth of the learning rate.

    Muon would whiten the first kernels anew. lr: what was asked for, if anything.
    """
    sgd = (0.1 if batch_norm else 0.01) * min(config.batch_size, images) / 256
    return replace(config, optimizer="sgd", lr=0.1 * sgd if lr is None else lr)


SCARCE = 2000  # images, up to which an estimate by folds is worth its time


@dataclass(frozen=True)
class Finetune(Supervised):
    """`mlcli finetune`, of what lies below the last layer; that is solved, and needs no config but `copies`.

    copies: of each image, that learn beside it: its mirror image, then shifted ones. decay: what the rate of a stage
    is to that of the stage above it.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 3e-4
    decay: float = 0.5
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    schedule: str = "cosine"
    cutout: int = 0
    freeze: str = "all"
    copies: int = 1


@dataclass(frozen=True)
class Pretext(Supervised):
    """`mlcli pretext`; permutations: classes of the jigsaw."""

    task: str = "rotation"
    epochs: int = 10
    cutout: int = 0
    label_smoothing: float = 0.0
    permutations: int = 30


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


@dataclass(frozen=True)
class Analogy:
    """`mlcli analogy`; the defaults learn a filter, ANALOGIES has those of every mode.

    inputs: the images that the mode takes. texture: A' is a texture to be laid out anew, not an image in its place.
    """

    inputs: tuple[str, ...] = ("A", "A_PRIME", "B")
    texture: bool = False
    match: str = "luminance"
    color: str = "auto"
    remap: str = "none"
    kappa: float = 0.5
    source_weight: float = 3.0
    levels: int = 5
    passes: int = 2
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


@dataclass(frozen=True)
class Gan:
    """`mlcli gan`; spectral norm, learning rates and betas of Miyato et al. 2018 (setting C).

    A step updates the discriminator `discriminator_steps` times, on as many batches, and then the generator.
    spectral: None is on, but for the Wasserstein loss, whose penalty holds the discriminator in its place.
    """

    steps: int = 20000
    batch_size: int = 64
    loss: str = "hinge"
    spectral: bool | None = None
    gradient_penalty: float = 10.0
    discriminator_steps: int = 1
    latent: int = 128
    filters: int = 64
    lr: float = 2e-4
    lr_discriminator: float = 2e-4
    schedule: str = "linear"
    beta1: float = 0.5
    beta2: float = 0.999
    ema: float = 0.999
    flip: bool = False
    compared: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Translation:
    """What training of translators has in common; names of networks and losses as in their registries.

    Rates are of both players. Sizes are (height, width); `load` is what images are brought to before a window of
    `size` is cut out. `ema` 0: no average.
    """

    generator: str = "unet"
    filters: int = 64
    norm: str = "batch"
    dropout: float = 0.0
    upsampling: str = "transposed"
    discriminator: str = "patch"
    discriminator_filters: int = 64
    layers: int = 3
    scales: int = 1
    init: str = "normal"
    init_gain: float = 0.02
    loss: str = "non-saturating"
    penalty: float = 10.0
    epochs: int = 200
    batch_size: int = 1
    accumulate: int = 1
    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    schedule: str = "linear"
    ema: float = 0.0
    size: tuple[int, int] = (256, 256)
    load: tuple[int, int] = (286, 286)
    preprocess: str = "resize-and-crop"
    flip: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Pix2Pix(Translation):
    """`mlcli pix2pix`; the defaults are those of Isola et al. 2017, with the rate of their later version."""

    dropout: float = 0.5
    direction: str = "AtoB"
    l1: float = 100.0
    gan: float = 1.0
    feature_matching: float = 0.0
    keep_luminance: bool = False


@dataclass(frozen=True)
class CycleGAN(Translation):
    """`mlcli cyclegan`; the defaults are those of Zhu et al. 2017."""

    generator: str = "resnet-9"
    norm: str = "instance"
    loss: str = "least-squares"
    cycle: float = 10.0
    identity: float = 0.5  # of `cycle`
    pool: int = 50


@dataclass(frozen=True)
class Inverse:
    """One way of `mlcli pairs` to make X of Y. means: what its strength is; empty where it has none.

    strength: the default; None where it goes by the size of the image. It lies from `least` to `most`.
    """

    means: str = ""
    strength: float | None = None
    least: float = 0.0
    most: float = float("inf")


INVERSES = {
    "edges": Inverse("smoothing in pixels", None, 0.3, 50),
    "gray": Inverse(),
    "blur": Inverse("standard deviation in pixels", None, 0.3, 500),
    "low-resolution": Inverse("factor", 4, 2, 1000),
    "mosaic": Inverse("side of a tile in pixels", None, 2, 10_000),
    "labels": Inverse("number of classes", 12, 2, 256),
}

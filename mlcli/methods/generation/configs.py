"""Hyperparameters of adversarial networks and of translation; loads no torch, for the sake of --help."""

from dataclasses import dataclass


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

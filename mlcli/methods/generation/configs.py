"""Hyperparameters of GANs and image-to-image translation. Free of torch, since the command line reads it for --help."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gan:
    """`mlcli gan`; spectral norm, learning rates and betas of Miyato et al. 2018 (setting C).

    A step updates the discriminator `discriminator_steps` times, on as many batches, and then the generator.
    spectral: spectral normalization of the discriminator; None is on, except for the Wasserstein loss, whose gradient
    penalty regularizes the discriminator instead. compared: images of each set that distances are measured on.
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
    """What the trainings of translators have in common; names of networks and losses as in their registries.

    The learning rate is that of both networks. Sizes are (height, width); images are resized to `load` before a window
    of `size` is cropped. ema: decay of the generator's EMA; 0 for none.
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
    """`mlcli pix2pix`; the defaults are those of Isola et al. 2017, with the learning rate of their later version."""

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
    identity: float = 0.5  # as a fraction of `cycle`
    pool: int = 50

"""Hyperparameters of GANs and image-to-image translation. Free of torch, since the command line reads it for --help."""

from dataclasses import dataclass

from mlcli.options import DATA, METHOD, NETWORK, TRAINING, option, same

# Names in the registries of the networks, losses, schedules and preprocessing
LOSSES = ("non-saturating", "least-squares", "hinge", "wasserstein")
SCHEDULES = ("linear", "cosine", "step", "constant")
GENERATORS = ("unet", "resnet-9", "resnet-6", "pix2pixhd")
NORMS = ("batch", "instance", "none")
UPSAMPLINGS = ("transposed", "resize")
DISCRIMINATORS = ("patch", "pixel")
INITIALIZATIONS = ("normal", "xavier", "kaiming", "orthogonal")
PREPROCESSINGS = ("resize-and-crop", "crop", "scale-width", "scale-width-and-crop", "none")
DIRECTIONS = ("AtoB", "BtoA")


@dataclass(frozen=True)
class Gan:
    """`mlcli gan`; spectral norm, learning rates and betas of Miyato et al. 2018 (setting C).

    A step updates the discriminator `discriminator_steps` times, on as many batches, and then the generator.
    spectral_norm: None is on, except for the Wasserstein loss, whose gradient penalty regularizes the discriminator
    instead. compared: images of each set that distances are measured on.
    """

    steps: int = option(20000, "Number of generator updates.", minimum=1, panel=TRAINING)
    batch_size: int = option(64, "Number of real images per update.", minimum=2, panel=TRAINING)
    loss: str = option("hinge", "Adversarial loss of both networks.", choices=LOSSES, panel=METHOD)
    spectral_norm: bool | None = option(
        None,
        "Spectral normalization of the discriminator.",
        "--spectral-norm/--no-spectral-norm",
        shown_default="on, except with the wasserstein loss",
        panel=NETWORK,
    )
    gradient_penalty: float = option(
        10.0,
        "Weight of the gradient penalty, which only the wasserstein loss has.",
        minimum=0,
        panel=METHOD,
        applies=lambda options: options["loss"] == "wasserstein",
    )
    discriminator_steps: int = option(
        1, "Number of discriminator updates per generator update.", minimum=1, panel=TRAINING
    )
    latent: int = option(128, "Dimension of the latent noise vector.", minimum=1, panel=NETWORK)
    filters: int = option(
        64, "Number of channels in the largest feature maps of both networks.", minimum=1, panel=NETWORK
    )
    lr: float = option(2e-4, "Initial learning rate of the generator.", minimum=0, panel=TRAINING)
    lr_discriminator: float = option(2e-4, "Initial learning rate of the discriminator.", minimum=0, panel=TRAINING)
    schedule: str = option(
        "linear",
        "Schedule of both learning rates; linear is constant for the first half and then falls to 0.",
        choices=SCHEDULES,
        panel=TRAINING,
    )
    beta1: float = option(
        0.5, "Decay of Adam's running mean of the gradient.", minimum=0, maximum=0.999, panel=TRAINING
    )
    beta2: float = option(
        0.999, "Decay of Adam's running mean of the squared gradient.", minimum=0, maximum=0.99999, panel=TRAINING
    )
    ema: float = option(
        0.999,
        "Decay of the moving average (EMA) of the generator's weights, which is the result.",
        minimum=0,
        maximum=1,
        panel=TRAINING,
    )
    flip: bool = option(
        False, "Flip images from left to right at random; not for digits and letters.", "--flip", panel=METHOD
    )
    compared: int = option(
        2000,
        "Number of generated images whose distance to the data is measured; 0 measures none.",
        minimum=0,
        panel=METHOD,
    )
    seed: int = 0


@dataclass(frozen=True)
class Translation:
    """What the trainings of translators have in common; names of networks and losses as in their registries.

    The learning rate is that of both networks. Sizes are (height, width); images are resized to `load_size` before a
    window of `size` is cropped. ema: decay of the generator's EMA; 0 for none.
    """

    generator: str = option("unet", "Architecture of the generator.", choices=GENERATORS, panel=NETWORK)
    filters: int = option(64, "Number of channels in the generator's largest feature maps.", minimum=1, panel=NETWORK)
    norm: str = option(
        "batch",
        "Normalization layers of all networks; with one image per batch, batch normalizes each image by itself.",
        choices=NORMS,
        panel=NETWORK,
    )
    dropout: float = option(0.0, "Dropout probability in the generator.", minimum=0, maximum=0.9, panel=NETWORK)
    upsampling: str = option(
        "transposed",
        "Upsampling in the generator: transposed convolutions, or resizing, which makes no checkerboard artifacts.",
        choices=UPSAMPLINGS,
        panel=NETWORK,
    )
    discriminator: str = option(
        "patch",
        "Discriminator: one output per patch of the image, or per pixel.",
        choices=DISCRIMINATORS,
        panel=NETWORK,
    )
    discriminator_filters: int = option(
        64, "Number of channels in the discriminator's first layer.", minimum=1, panel=NETWORK
    )
    layers: int = option(
        3,
        "Number of strided layers in the patch discriminator; 3 see patches of 70 x 70 pixels.",
        minimum=1,
        panel=NETWORK,
        applies=lambda options: options["discriminator"] == "patch",
    )
    scales: int = option(
        1,
        "Number of discriminators, each of which sees the image at half the size of the one before.",
        minimum=1,
        maximum=4,
        panel=NETWORK,
    )
    init: str = option("normal", "Initialization of the weights.", choices=INITIALIZATIONS, panel=NETWORK)
    init_gain: float = option(
        0.02, "Scale of the initial weights; their standard deviation where --init is normal.", minimum=0, panel=NETWORK
    )
    loss: str = option("non-saturating", "Adversarial loss of both networks.", choices=LOSSES, panel=METHOD)
    gradient_penalty: float = same(Gan, "gradient_penalty")
    epochs: int = option(
        200,
        "Number of passes over the training images.",
        minimum=1,
        panel=TRAINING,
        applies=lambda options: options["steps"] is None,
    )
    batch_size: int = option(1, "Number of images per training step.", minimum=1, panel=TRAINING)
    accumulate: int = option(
        1,
        "Number of parts into which a batch is split to save memory; their gradients are accumulated.",
        minimum=1,
        panel=TRAINING,
    )
    lr: float = option(2e-4, "Initial learning rate of all networks.", minimum=0, panel=TRAINING)
    beta1: float = same(Gan, "beta1")
    beta2: float = same(Gan, "beta2", maximum=0.9999)
    schedule: str = same(
        Gan,
        "schedule",
        help="Schedule of the learning rate; linear is constant for the first half and then falls to 0.",
    )
    ema: float = option(
        0.0,
        "Decay of a moving average (EMA) of the generator's weights, such as 0.999; 0 keeps none.",
        minimum=0,
        maximum=0.99999,
        panel=TRAINING,
    )
    size: tuple[int, int] = (256, 256)
    load_size: tuple[int, int] = (286, 286)
    preprocess: str = option(
        "resize-and-crop",
        "Preprocessing that brings images to --size: resizing, cropping, scaling to a width, or none.",
        choices=PREPROCESSINGS,
        panel=DATA,
    )
    flip: bool = option(
        True,
        "Flip images from left to right at random; turn off for digits and letters.",
        "--flip/--no-flip",
        panel=METHOD,
    )
    seed: int = 0


@dataclass(frozen=True)
class Pix2Pix(Translation):
    """`mlcli pix2pix`; the defaults are those of Isola et al. 2017, with the learning rate of their later version."""

    dropout: float = same(Translation, "dropout", default=0.5)
    direction: str = option(
        "AtoB", "Direction of the translation: AtoB makes B of A.", choices=DIRECTIONS, panel=METHOD
    )
    l1: float = option(100.0, "Weight of the L1 loss, the mean absolute error.", minimum=0, panel=METHOD)
    gan: float = option(
        1.0, "Weight of the adversarial loss; 0 trains with the L1 loss alone.", minimum=0, panel=METHOD
    )
    feature_matching: float = option(
        0.0,
        "Weight of the feature-matching loss on the discriminator's activations; 10 in pix2pixHD.",
        minimum=0,
        panel=METHOD,
    )
    keep_luminance: bool = option(False, "Keep the luminance of gray images and learn only their colors.", panel=METHOD)


@dataclass(frozen=True)
class CycleGAN(Translation):
    """`mlcli cyclegan`; the defaults are those of Zhu et al. 2017."""

    generator: str = same(Translation, "generator", default="resnet-9", help="Architecture of both generators.")
    norm: str = same(Translation, "norm", default="instance")
    loss: str = same(Translation, "loss", default="least-squares")
    cycle: float = option(10.0, "Weight of the cycle-consistency loss.", minimum=0, panel=METHOD)
    identity: float = option(
        0.5, "Weight of the identity loss, as a multiple of --cycle; 0 leaves it out.", minimum=0, panel=METHOD
    )
    pool: int = option(
        50, "Number of earlier translations that are kept to train the discriminators.", minimum=0, panel=METHOD
    )

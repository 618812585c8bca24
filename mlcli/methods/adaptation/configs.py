"""The options of the methods of adaptation and their defaults; without torch, as mlcli.methods.configs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Adaptation:
    """`mlcli adapt`, what its methods have in common. Figures and losses are of the papers, see the methods.

    source_steps, source_batch_size, source_lr: of every supervised training (source only, on the target's labels,
    on translations), Adam with a cosine schedule; shift: pixels that its images are moved by at random, and those
    of the target where an encoder learns against a discriminator. steps, batch_size, lr: of the adaptation.
    candidates: moments of the adaptation among which `select`, which sees no label, chooses the result.

    pretrained: networks begin from the weights of `model`, or from the file `weights`, with a new last layer; what
    is pretrained learns at `backbone` times the learning rates.
    """

    model: str = "lenet"
    pretrained: bool = False
    weights: str | None = None
    backbone: float = 0.1
    source_steps: int = 2000
    source_batch_size: int = 128
    source_lr: float = 1e-3
    shift: int = 2
    steps: int = 2000
    batch_size: int = 128
    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    select: str = "im"
    candidates: int = 10

    @property
    def translates(self) -> bool:
        """Whether a CycleGAN with the config's `generator` is trained between the domains."""
        return False


@dataclass(frozen=True)
class Adda(Adaptation):
    """ADDA, Tzeng et al. 2017. judge: what the discriminator looks at; lead: how often it must be right, or it alone
    learns (0: never mind)."""

    steps: int = 5000
    judge: str = "features"
    hidden: int = 500
    lead: float = 0.0


@dataclass(frozen=True)
class SimGan(Adaptation):
    """SimGAN, Shrivastava et al. 2017. regularization: lambda of eq. 5; history: images that the buffer holds;
    moments: refiners that the classifier learns from.

    refiner_first, discriminator_first: steps that each learns alone before the game.
    """

    steps: int = 1500
    batch_size: int = 64
    lr: float = 1e-3
    regularization: float = 0.2
    history: int = 1000
    refiner_first: int = 100
    discriminator_first: int = 50
    refiner_steps: int = 2
    filters: int = 32
    blocks: int = 4
    moments: int = 5


@dataclass(frozen=True)
class Cycada(Adda):
    """CyCADA, Hoffman et al. 2018. stage: pixel, feature or both; steps, lr: of the feature stage, ADDA's.

    pixel_steps, pixel_lr, pixel_batch: of the CycleGAN; cycle, semantic: weights in its loss. generator: None is unet
    or resnet-6 by the size of the images (see `AdaptationContext.generator`).
    """

    steps: int = 4000
    lr: float = 1e-4
    lead: float = 0.6
    stage: str = "both"
    generator: str | None = None
    filters: int = 16
    pixel_steps: int = 1500
    pixel_lr: float = 1e-3
    pixel_batch: int = 16
    cycle: float = 10.0
    semantic: float = 1.0
    pool: int = 50

    @property
    def translates(self) -> bool:
        return self.stage != "feature"


@dataclass(frozen=True)
class Seuda(Adaptation):
    """SeUDA, Chen et al. 2018: weights of the losses of eq. 1 to 4; steps, lr, batch_size: of the generators.

    generator: as in `Cycada`.
    """

    steps: int = 1500
    batch_size: int = 16
    lr: float = 1e-3
    generator: str | None = None
    filters: int = 16
    cycle: float = 10.0
    back: float = 0.5
    semantic: float = 0.5
    pool: int = 50

    @property
    def translates(self) -> bool:
        return True


# Defaults of networks that begin from pretrained weights: photographs are large, and little is left to be learned
PRETRAINED = {"model": "efficientnet_lite0", "source_steps": 300, "source_batch_size": 32, "shift": 4}
PRETRAINED_FEATURES = {"steps": 300, "batch_size": 32}  # of the stage in which an encoder learns from a discriminator

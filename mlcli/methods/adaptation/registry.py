"""The methods of `mlcli adapt` with their hyperparameters. Free of torch, since the command line reads it for --help.

A method is one file, with a function `adapt(context) -> AdaptationResult`, and one entry here: its configuration and
its line in METHODS. Every field that is made by `option` becomes an option of the command, named after the field; the
other fields are constants of the method.
"""

import importlib
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING, Any

from mlcli.options import METHOD, TRAINING, option, options, same

if TYPE_CHECKING:
    from mlcli.methods.adaptation.context import AdaptationContext, AdaptationResult

GENERATORS = ("unet", "resnet-9", "resnet-6", "pix2pixhd")  # of mlcli.models.translators, for images of two domains
CRITERIA = ("im", "snd", "entropy", "reverse", "last")  # of mlcli.methods.adaptation.model_selection


@dataclass(frozen=True)
class Adaptation:
    """What all methods have in common: the network, and the supervised training of the source model.

    Supervised trainings (of the source model, on the target's labels, on translated images) use Adam with a cosine
    schedule, and labels smoothed by `smoothing`. pretrained: networks start from the weights of `model`, or from the
    file `weights`, with a new last layer; what is pretrained learns at `backbone` times the learning rate.
    """

    model: str = "lenet"
    pretrained: bool = False
    weights: str | None = None
    backbone: float = 0.1
    source_steps: int = option(
        2000, "Number of optimization steps of each supervised training.", minimum=1, panel=TRAINING
    )
    source_batch_size: int = option(
        128, "Number of images in a batch of each supervised training.", minimum=1, panel=TRAINING
    )
    source_lr: float = option(1e-3, "Initial learning rate of each supervised training.", minimum=0, panel=TRAINING)
    shift: int = option(
        2,
        "Largest random shift of training images, in pixels; ADDA, DANN, SHOT and self-ensembling shift target images "
        "as well.",
        minimum=0,
        panel=TRAINING,
    )
    rotate: float = option(
        0.0,
        "Largest random rotation of training images, in degrees; methods that shift target images rotate them as well.",
        minimum=0,
        maximum=180,
        panel=TRAINING,
    )
    recolor: bool = option(
        False, "Give training images of the source random colors, half of them inverted first.", panel=TRAINING
    )
    smoothing: float = 0.0

    @property
    def translates(self) -> bool:
        """Whether a CycleGAN between the domains is trained."""
        return False

    @property
    def needs_batch_norm(self) -> bool:
        """Whether the network must have batch norms, whose statistics are adapted."""
        return False


@dataclass(frozen=True)
class AdaptiveBatchNorm(Adaptation):
    """AdaBN, Li et al. 2016. Its network is one with batch norms."""

    model: str = "lenet-bn"
    target_statistics: float = option(
        1.0,
        "Weight of the target's images in the statistics of batch norms; the rest is the source's.",
        minimum=0,
        maximum=1,
        panel=METHOD,
    )

    @property
    def needs_batch_norm(self) -> bool:
        return True


@dataclass(frozen=True)
class Optimized(Adaptation):
    """A method that optimizes something on the target: Adam, and a choice among checkpoints without labels.

    candidates: checkpoints among which the criterion `select`, which sees no label, chooses the result.
    """

    steps: int = option(2000, "Number of optimization steps of the adaptation.", minimum=1, panel=TRAINING)
    batch_size: int = option(
        128, "Number of images per domain in a batch of the adaptation.", minimum=1, panel=TRAINING
    )
    lr: float = option(2e-4, "Learning rate of the adaptation.", minimum=0, panel=TRAINING)
    beta1: float = 0.5
    beta2: float = 0.999
    select: str = option(
        "im",
        "Criterion that chooses the checkpoint without labels: im (certain predictions of all classes), snd (equal "
        "predictions of neighbors), entropy (certain predictions), reverse (predictions from which a classifier learns "
        "to classify the source) or last.",
        choices=CRITERIA,
        panel=TRAINING,
    )
    candidates: int = option(10, "Number of checkpoints to choose the result from.", minimum=1, panel=TRAINING)


@dataclass(frozen=True)
class EncoderOptions(Optimized):
    """A method that trains the encoder of a classifier on target images."""


@dataclass(frozen=True)
class CycleGanOptions(Optimized):
    """A method that trains a CycleGAN between the domains. Its own options are weights of the losses."""

    generator: str | None = option(
        None,
        "Architecture of both generators.",
        choices=GENERATORS,
        shown_default="unet, or resnet-6 where --size is not a multiple of 8",
        panel=METHOD,
    )
    filters: int = option(16, "Number of channels of the generator's first layer.", minimum=1, panel=METHOD)
    cycle: float = option(10.0, "Weight of the cycle-consistency loss.", minimum=0, panel=METHOD)
    semantic: float = option(1.0, "Weight of the semantic-consistency loss.", minimum=0, panel=METHOD)
    pool: int = 50

    @property
    def translates(self) -> bool:
        return True


@dataclass(frozen=True)
class Adda(EncoderOptions):
    """ADDA, Tzeng et al. 2017. hidden: width of the discriminator's hidden layers."""

    steps: int = same(Optimized, "steps", default=5000)
    discriminator_input: str = option(
        "features", "Input of the discriminator: features or logits.", choices=("features", "logits"), panel=METHOD
    )
    hidden: int = 500
    accuracy_threshold: float = option(
        0.0,
        "Accuracy of the discriminator in a batch below which the encoder is not updated; 0 updates it always.",
        minimum=0,
        maximum=1,
        panel=METHOD,
    )


@dataclass(frozen=True)
class Dann(EncoderOptions):
    """DANN, Ganin et al. 2016. It learns by SGD. hidden: width of the discriminator's hidden layers."""

    lr: float = same(Optimized, "lr", default=1e-2)
    momentum: float = 0.9
    hidden: int = 500


@dataclass(frozen=True)
class SelfEnsembling(EncoderOptions):
    """Self-ensembling, French et al. 2018.

    decay: of the moving average that the teacher is.  consistency: weight of the losses on the target.
    """

    model: str = "lenet-bn"
    lr: float = same(Optimized, "lr", default=1e-3)
    beta1: float = 0.9
    confidence: float = option(
        0.968,
        "Probability of the teacher's prediction for a target image from which the student learns it.",
        minimum=0,
        maximum=1,
        panel=METHOD,
    )
    balance: float = option(
        0.005,
        "Weight of the class balance loss, which favors equally frequent classes; 0 where they are not.",
        minimum=0,
        panel=METHOD,
    )
    consistency: float = 3.0
    decay: float = 0.99


@dataclass(frozen=True)
class SimGan(Optimized):
    """SimGAN, Shrivastava et al. 2017.

    refiner_first, discriminator_first: steps that each network learns alone before both learn in turns.
    refiner_steps: updates of the refiner for each one of the discriminator, K_g of algorithm 1.
    checkpoints: states of the refiner from which the classifier learns.
    """

    steps: int = same(Optimized, "steps", default=1500)
    batch_size: int = same(Optimized, "batch_size", default=64)
    lr: float = same(Optimized, "lr", default=1e-3)
    regularization: float = option(
        0.2,
        "Weight of the self-regularization loss, by which a refined image stays near its original.",
        minimum=0,
        panel=METHOD,
    )
    history: int = option(
        1000, "Number of earlier refined images in the buffer; 0 uses no buffer.", minimum=0, panel=METHOD
    )
    refiner_first: int = 100
    discriminator_first: int = 50
    refiner_steps: int = 2
    filters: int = same(CycleGanOptions, "filters", default=32)
    blocks: int = 4
    checkpoints: int = 5


@dataclass(frozen=True)
class Cycada(Adda, CycleGanOptions):
    """CyCADA, Hoffman et al. 2018. steps, batch_size and lr are those of the feature stage, which is ADDA."""

    steps: int = same(Optimized, "steps", default=4000)
    lr: float = same(Optimized, "lr", default=1e-4)
    accuracy_threshold: float = same(Adda, "accuracy_threshold", default=0.6)
    stage: str = option(
        "both",
        "Stages to run: pixel, feature, or both one after the other.",
        choices=("pixel", "feature", "both"),
        panel=METHOD,
    )
    pixel_steps: int = option(1500, "Number of optimization steps of the pixel stage.", minimum=1, panel=METHOD)
    pixel_lr: float = option(1e-3, "Learning rate of the pixel stage.", minimum=0, panel=METHOD)
    pixel_batch: int = 16

    @property
    def translates(self) -> bool:
        return self.stage != "feature"


@dataclass(frozen=True)
class Seuda(CycleGanOptions):
    """SeUDA, Chen et al. 2018. steps, batch_size and lr are those of the generators.

    back: weight of the adversarial loss of translations to the source (eq. 1 to 4).
    """

    steps: int = same(Optimized, "steps", default=1500)
    batch_size: int = same(Optimized, "batch_size", default=16)
    lr: float = same(Optimized, "lr", default=1e-3)
    back: float = 0.5
    semantic: float = same(CycleGanOptions, "semantic", default=0.5)
    information: float = option(
        1.0,
        "Weight of the loss that makes predictions for translated images certain and their classes equally frequent; "
        "masks have none.",
        minimum=0,
        panel=METHOD,
    )


@dataclass(frozen=True)
class Shot(EncoderOptions):
    """SHOT, Liang et al. 2020."""

    model: str = "lenet-bn"
    steps: int = same(Optimized, "steps", default=3000)
    lr: float = same(Optimized, "lr", default=3e-4)
    beta1: float = 0.9
    rotate: float = same(Adaptation, "rotate", default=15.0)
    smoothing: float = 0.1
    pseudo: float = option(0.3, "Weight of the cross-entropy with pseudo-labels.", minimum=0, panel=METHOD)


# Defaults of networks that start from pretrained weights: photographs are large, and little is left to be learned.
PRETRAINED: dict[str, Any] = {
    "model": "efficientnet_lite0",
    "source_steps": 300,
    "source_batch_size": 32,
    "shift": 4,
}
PRETRAINED_FEATURES: dict[str, Any] = {"steps": 300, "batch_size": 32}  # of EncoderOptions
# Defaults where the labels are masks: an image has thousands of labels, and its classes need not be equally frequent.
MASKS: dict[str, Any] = {"model": "unet", "source_batch_size": 16, "select": "last"}


@dataclass(frozen=True)
class AdaptationMethod:
    """An entry of METHODS.

    module: what holds `adapt`, imported when it is needed. summary: for the help of --method. tasks: what the labels
    may be, "classify" and "segment". source_free: whether it does without the images of the source, given a model.
    equal_frequencies: whether it assumes that classes are as frequent in the target as in the source, or all equally
    frequent.
    """

    module: str
    config: type[Adaptation]
    summary: str
    tasks: tuple[str, ...] = ("classify",)
    source_free: bool = False
    equal_frequencies: bool = True

    def adapt(self, context: "AdaptationContext[Any]") -> "AdaptationResult":
        """Run the method for one seed."""
        return importlib.import_module(self.module).adapt(context)


METHODS = {
    "adda": AdaptationMethod(
        "mlcli.methods.adaptation.adda", Adda, "a target encoder whose features a discriminator cannot tell apart"
    ),
    "dann": AdaptationMethod(
        "mlcli.methods.adaptation.dann", Dann, "one network whose features show the class and hide the domain"
    ),
    "self-ensembling": AdaptationMethod(
        "mlcli.methods.adaptation.self_ensembling",
        SelfEnsembling,
        "a student that agrees with its own moving average on augmented target images",
    ),
    "adabn": AdaptationMethod(
        "mlcli.methods.adaptation.adaptive_batch_norm",
        AdaptiveBatchNorm,
        "batch norms with the statistics of the target, and no training on it",
        source_free=True,
        equal_frequencies=False,
    ),
    "cycada": AdaptationMethod(
        "mlcli.methods.adaptation.cycada", Cycada, "image translation that preserves the class, followed by adda"
    ),
    "simgan": AdaptationMethod(
        "mlcli.methods.adaptation.simgan", SimGan, "a classifier trained on source images refined to look real"
    ),
    "seuda": AdaptationMethod(
        "mlcli.methods.adaptation.seuda",
        Seuda,
        "target images translated to the source domain, for a fixed source model",
        ("classify", "segment"),
    ),
    "shot": AdaptationMethod(
        "mlcli.methods.adaptation.shot",
        Shot,
        "certain and diverse answers of the source model's fixed last layer, without source images",
        source_free=True,
    ),
}


def command_line_options() -> dict[str, list[tuple[str, Field[Any]]]]:
    """name: [(method, field)] of every option, for the methods that have it."""
    found: dict[str, list[tuple[str, Field[Any]]]] = {}
    for name, method in METHODS.items():
        for each in options(method.config):
            found.setdefault(each.name, []).append((name, each))
    return found

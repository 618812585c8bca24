"""`mlcli.maximize`: the image that a unit, a layer or a class responds to most strongly."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, complain
from mlcli.api.image_layout import SINGLE, TILE
from mlcli.api.image_result import ImageResult, image_output, require_writable
from mlcli.api.inputs import Readable, file_names, named, one_image
from mlcli.api.invert import InvertedImages, inverted
from mlcli.counting import counted
from mlcli.errors import DataError, UsageError
from mlcli.methods.visualization.configs import (
    DREAM,
    FINE,
    MACO,
    SMALL,
    SMALL_IMAGES,
    Inversion,
    Maximization,
    maximization,
)
from mlcli.options import COMPUTING, METHOD, NETWORK, OUTPUT, argument, option, same

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from mlcli.methods.visualization.activation_maximization import Maximized
    from mlcli.methods.visualization.maco import Spectrum
    from mlcli.methods.visualization.objectives import Objective
    from mlcli.models.registry import Model
    from mlcli.runtime.device import Runtime

MOST = 512  # images that one call makes at most
RANDOM = ("jitter", "scale", "rotation")  # in whose place MACO has random crops
LARGEST_START = 512  # pixels, the short side of a given image where no size is given


def by_network(name: str) -> Any:
    """The option of a hyperparameter whose default goes by the network, the layer and the start."""
    configs = Maximization(), FINE, SMALL_IMAGES, DREAM, MACO
    own, fine, small, dream, maco = (f"{getattr(each, name):g}" for each in configs)
    cases = {
        "for layers that see less than a third of the image's side": fine,
        f"for networks of images up to {SMALL} pixels": small,
        "with --init FILE": dream,
        "with --param maco": own if name in RANDOM else maco,
    }
    shown = own + "".join(f"; {value} {case}" for case, value in cases.items() if value != own)
    if hasattr(Inversion, name):
        shown += f"; {getattr(Inversion, name):g} with --invert"
    return same(Maximization, name, default=None, shown_default=shown)


@dataclass(frozen=True, kw_only=True)
class MaximizeConfig(common.ReadsFiles, common.UsesClasses, common.Computes):
    objective: str | None = argument(
        'Expression to maximize, such as conv4:12, conv4:0-15, logit:tiger or "conv4:12 - 2*tv".',
        metavar="OBJECTIVE",
        default=None,
    )
    output: Path | None = image_output()
    interpolate: tuple[str, str] | None = option(
        None, "Two objectives, in place of OBJECTIVE: frames lead from the first to the second.", panel=METHOD
    )
    invert: common.OneImage | None = option(
        None,
        "Image to invert, in place of OBJECTIVE: what is left of it at each --layer.",
        cli_type=str,
        path="input",
        panel=METHOD,
    )
    layer: str | Sequence[str] | None = option(
        None,
        "Address or alias of a layer to invert, several with commas or given several times.",
        completes="layer",
        panel=NETWORK,
        cli_type=list[str],
        shown_default="all convolutional stages",
    )
    frames: int = option(7, "Number of frames of an interpolation.", minimum=2, panel=METHOD)
    batch: int = option(
        1, "Number of images of the same objective, which diversity(LAYER) compares.", minimum=1, panel=METHOD
    )
    init: common.OneImage = option(
        "noise", "Initial image: noise, or the file of an image (DeepDream).", cli_type=str, panel=METHOD
    )
    size: int | None = option(
        None,
        "Side of the optimized image in pixels; with --init FILE its short side.",
        minimum=1,
        shown_default="that to which the model resizes images; with --init FILE that of the file, "
        f"at most {LARGEST_START}",
        panel=OUTPUT,
    )
    octaves: int | None = same(
        Maximization,
        "octaves",
        shown_default="1; for a class as many as lie between the model's own size and --size; "
        f"{DREAM.octaves} with --init FILE",
    )
    zoom: int | None = option(
        None,
        "Side of an optimized pixel in the written image, in pixels.",
        minimum=1,
        shown_default=f"large enough for {SINGLE} pixels; in a grid, for tiles of about {TILE} pixels",
        panel=OUTPUT,
    )
    snapshots: str | Sequence[int] | None = option(
        None, "Numbers of steps after which the image is shown as well, as in 0,4,32.", cli_type=str, panel=OUTPUT
    )
    steps: int | None = by_network("steps")
    lr: float | None = by_network("lr")
    param: str = same(Maximization, "param")
    spectrum: common.Paths | None = option(
        None,
        "Images whose mean magnitude spectrum --param maco keeps: a file, folder or archive, or - for paths on stdin.",
        cli_type=str,
        path="input",
        shown_default="that of photographs",
        panel=METHOD,
    )
    jitter: float | None = by_network("jitter")
    scale: float | None = by_network("scale")
    rotation: float | None = by_network("rotation")
    batch_size: int | None = option(
        None,
        "Number of images that are optimized together.",
        minimum=1,
        shown_default="64, fewer if they are large",
        panel=COMPUTING,
    )
    seed: int = common.seed()
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class OptimizedImage:
    """One image that was optimized, without enlargement.

    objective: as an expression. value: of the objective. predicted, probability: the class that the model gives to the
    image, and with what probability. snapshots: maps a number of steps to the image after so many steps.
    """

    image: "Image.Image"
    objective: str
    value: float
    predicted: str
    probability: float
    snapshots: dict[int, "Image.Image"] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "objective": self.objective,
            "value": self.value,
            "class": self.predicted,
            "probability": self.probability,
        }


@dataclass(frozen=True)
class MaximizedImages(ImageResult):
    """image: a single image, enlarged, or a grid of all.  images: each by itself, in the order of the objectives.

    failures: number of images of `spectrum` that could not be read.
    """

    images: tuple[OptimizedImage, ...]
    failures: int = 0


@function(MaximizeConfig)
def maximize(call: Call[MaximizeConfig]) -> MaximizedImages | InvertedImages:
    """Make the image that a unit, a layer or a class responds to most strongly (Erhan et al. 2009, Olah et al. 2017).

    An objective is a sum of addresses with weights: a channel (conv4:12), a neuron (conv4:12@center, conv4:12@2,5), a
    whole layer (conv3, DeepDream), a class (logit:tiger), penalties (tv, l1, l2, blur) and the similarity of the images
    of a `batch`, as in "conv4:12 + 0.5*conv5:7 - 100*diversity(conv4)". Several units (conv4:0-15) make a grid.

        >>> import mlcli
        >>> result = mlcli.maximize("conv1:3", model="cifarnet", steps=4)
        >>> result.image.size, result.images[0].image.size
        ((256, 256), (32, 32))

    With `invert` the result is an `InvertedImages`: for each layer an image that has the values of the given one there
    (Mahendran and Vedaldi 2015), with its PSNR.

    The default model takes seconds per image. Raises UsageError for an objective that the model does not have, for
    options that do not go together and for an `output` that exists, ImageError for an initial image that cannot be
    read, WeightsError for a model that cannot be had.
    """
    from mlcli.api import layer_names
    from mlcli.api.image_layout import Layout
    from mlcli.api.outputs import determining, record
    from mlcli.methods.visualization import activation_maximization
    from mlcli.methods.visualization.objective_parser import named_layers
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime

    config = call.config
    require_writable(config.output, overwrite=config.overwrite)
    given = [each is not None for each in (config.objective, config.interpolate, config.invert)]
    if sum(given) != 1:
        raise UsageError("one OBJECTIVE, or --interpolate with two, or --invert with an image, is needed")
    if config.invert is not None:
        return inverted(config)
    if config.layer is not None:
        raise UsageError("--layer: names what --invert inverts; an OBJECTIVE names its layers itself")
    if config.interpolate and config.batch > 1:
        raise UsageError("--batch: an interpolation is made of --frames")
    _require_maco(config)
    start = _initial_image(config)
    runtime = Runtime.choose(config.device, config.precision).for_training()
    model = registry.load(config.model, config.weights, classes=config.classes).to(runtime)
    model.require_classes()  # the images are classified in the end
    if config.precision == "auto":
        runtime = activation_maximization.with_fastest_precision(runtime, model)
    objectives = _objectives(config, model)
    texts = config.interpolate or [config.objective or ""]
    layers = layer_names.addresses(model, (name for text in texts for name in named_layers(text, model)))
    hyperparameters = _hyperparameters(config, model, objectives)
    snapshots = _snapshots(config.snapshots, hyperparameters.steps)
    side = config.size or model.preprocessing.resize or model.preprocessing.crop
    size = (side, side) if start is None else (start.shape[1], start.shape[2])
    layout = Layout.of(config, objectives, [*snapshots, hyperparameters.steps], size)
    layout.require_room(config.output, len(objectives) * (len(snapshots) + 1), size)
    spectrum, failures = (None, 0) if config.spectrum is None else _spectrum(config.spectrum, model, size)
    group = config.frames if config.interpolate else config.batch
    batch_size = max(1, (config.batch_size or activation_maximization.default_batch_size(*size)) // group) * group
    batches = -(-len(objectives) // batch_size)
    with Progress(batches * hyperparameters.steps, "maximize") as bar:
        made = activation_maximization.maximize(
            model,
            objectives,
            hyperparameters,
            runtime,
            size=size,
            group=group,
            aligned=config.interpolate is not None,
            start=start,
            spectrum=spectrum,
            snapshots=snapshots,
            batch_size=batch_size,
            on_step=lambda done, value: bar.to(done, f"objective {value:.4g}"),
        )
    if any(term.text.startswith("logit:") for each in objectives for _, term in each.terms):
        _warn_of_borrowed_features(config.model)
    images = _images(objectives, made, model, runtime)
    options = determining(
        config,
        size=list(size),
        snapshots=snapshots,
        batch_size=batch_size,
        precision=runtime.precision,
        **asdict(hyperparameters),
    )
    written = record("maximize", options, model, addresses=layers, images=[image.as_json() for image in images])
    return MaximizedImages.written(layout.draw(made), written, config.output, images=images, failures=failures)


def _require_maco(config: MaximizeConfig) -> None:
    """Raise UsageError for options that do not go with --param."""
    if config.param != "maco":
        if config.spectrum is not None:
            raise UsageError("--spectrum: is kept by --param maco alone")
        return
    if config.interpolate:
        raise UsageError("--param maco: makes no frames of an interpolation; take --param fourier")
    for name in RANDOM:
        if getattr(config, name) is not None:
            raise UsageError(f"--{name}: --param maco has random crops in place of it")


def _spectrum(given: common.Paths, model: "Model", size: tuple[int, int]) -> tuple["Spectrum", int]:
    """(the mean magnitude spectrum of images, each resized to fill this size; how many could not be read).

    Raises DataError where none could.
    """
    from mlcli.imaging import image_io
    from mlcli.methods.visualization import color_decorrelation
    from mlcli.methods.visualization.maco import Spectrum

    images, failures = named(file_names(given))
    with Progress(len(images), "spectrum") as bar:

        def prepare(image: "Tensor") -> "Tensor":
            image = image_io.to_unit(image_io.fill(image, size))
            return image_io.to_gray(image) if model.preprocessing.channels == 1 else image

        readable = Readable(images, prepare, bar, window=16, workers=None)
        colors = color_decorrelation.of_training_data(model)
        spectrum = Spectrum.measured((image for _, image in readable), colors)
    if not readable.count:
        raise DataError(f"--spectrum {given}: no readable image among the {len(images)} that were named")
    return spectrum, failures + readable.failures


def _initial_image(config: MaximizeConfig) -> "Tensor | None":
    """The image (3, H, W) to start from, its short side `size` or at most 512 pixels; None for noise."""
    from mlcli.data import preprocessing
    from mlcli.imaging import image_io

    if _from_noise(config):
        return None
    image = preprocessing.shorten(image_io.read(one_image(config.init)))
    return preprocessing.resize(image, config.size or min(LARGEST_START, *image.shape[1:]))


def _from_noise(config: MaximizeConfig) -> bool:
    return isinstance(config.init, str) and config.init == "noise"


def _objectives(config: MaximizeConfig, model: "Model") -> "list[Objective]":
    """The objective of each image. Raises UsageError for what is no objective of the model, and for too many."""
    from mlcli.methods.visualization.objective_parser import parse
    from mlcli.methods.visualization.objectives import interpolation

    if config.interpolate:
        first, last = (parse(text, model) for text in config.interpolate)
        if len(first) > 1 or len(last) > 1:
            raise UsageError("--interpolate: a range of units makes many objectives; name one unit on each side")
        return interpolation(first[0], last[0], config.frames)
    text = config.objective or ""
    objectives = [each for each in parse(text, model) for _ in range(config.batch)]
    if len(objectives) > MOST:
        raise UsageError(
            f"{text}: makes {counted(len(objectives), 'image')}, and one command makes at most {MOST}; name a "
            f"range of units, such as {text.replace(':all', ':0-15') if ':all' in text else 'conv4:0-15'}"
        )
    return objectives


def _hyperparameters(config: MaximizeConfig, model: "Model", objectives: "Sequence[Objective]") -> Maximization:
    """Those that are given, and for the others what suits the network, the layer and the start."""
    from mlcli.methods.visualization.activation_maximization import receptive_field

    suited = maximization(
        model.preprocessing.crop,
        field=receptive_field(objectives),
        dream=not _from_noise(config),
        maco=config.param == "maco",
    )
    names = ("steps", "lr", "octaves", "jitter", "scale", "rotation")
    given = {name: value for name in names if (value := getattr(config, name)) is not None}
    return replace(suited, param=config.param, seed=config.seed, **given)


def _snapshots(given: str | Sequence[int] | None, steps: int) -> list[int]:
    """The numbers of steps in order, without the last one, whose image is shown anyway."""
    if given is None:
        return []
    numbers = given.split(",") if isinstance(given, str) else [str(number) for number in given]
    if not all(number.isascii() and number.isdigit() and int(number) <= steps for number in numbers):
        text = ",".join(numbers)
        raise UsageError(f"--snapshots {text}: numbers of steps from 0 to {steps} are expected, such as 0,4,32")
    return sorted({int(number) for number in numbers} - {steps})


def _images(
    objectives: "Sequence[Objective]", made: "Maximized", model: "Model", runtime: "Runtime"
) -> tuple[OptimizedImage, ...]:
    """Each image with its objective, and how the model classifies it."""
    from mlcli.imaging.image_io import to_pillow
    from mlcli.methods.visualization.activation_maximization import predicted_classes

    predicted = predicted_classes(model, made.images, runtime)
    return tuple(
        OptimizedImage(
            to_pillow(made.images[index]),
            str(objective),
            made.values[index],
            *predicted[index],
            {step: to_pillow(images[index]) for step, images in made.snapshots.items()},
        )
        for index, objective in enumerate(objectives)
    )


def _warn_of_borrowed_features(model: str) -> None:
    """Say what the image of a class may show, if the model is a run that trained the last layer alone."""
    from mlcli.errors import RunError
    from mlcli.training.run_folder import Run

    try:
        config = Run(model).load_config()
    except RunError:  # no run: what its model.safetensors says is all that is known
        return
    options = config["options"]
    if config["command"] == "finetune" and options.get("freeze") == "all":
        complain(
            f"--model {model}: only its last layer was trained, on features that {options.get('model')} learned from "
            "other classes, and an image of a class may show one of those; to see what the new classes look like, tune "
            f"deeper layers: mlcli finetune {options.get('data')} --freeze none -o NEW, and maximize with --model NEW"
        )

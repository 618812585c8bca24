"""`mlcli.stylize`: neural style transfer."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function, plain
from mlcli.api.events import Progress, complain, say
from mlcli.api.image_result import ImageResult
from mlcli.api.inputs import listed, named, one_image
from mlcli.counting import counted
from mlcli.errors import ImageError, Interrupted, MlcliError, UsageError
from mlcli.methods.painting import configs
from mlcli.methods.painting.configs import Stylize
from mlcli.options import METHOD, NETWORK, OUTPUT, TRAINING, option, required, same

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from mlcli.api.paintings import Painting
    from mlcli.imaging.memory_images import MemoryImage
    from mlcli.methods.painting.style_transfer import FeatureExtractor, Stylization
    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime

STARTS = ("content", "noise", "gray", "style")  # all other values of `init` are images
OPEN = ("alpha", "tv", "style_loss", "size", "optimizer", "lr", "averaging")  # tuned for the model where not given


def by_model(name: str, shown: Any = str) -> Any:
    """The option of a hyperparameter whose default goes by the model."""
    others, cifarnet = shown(getattr(Stylize(), name)), shown(getattr(configs.CIFARNET, name))
    default = others if others == cifarnet else f"{cifarnet} for cifarnet, {others} for other models"
    return same(Stylize, name, default=None, shown_default=default)


def layers(what: str, shown_default: str) -> Any:
    """The option of the layers of a loss."""
    help = f"Layer of the {what} loss, or LAYER=WEIGHT; can be given several times."
    return option((), help, cli_type=list[str], shown_default=shown_default, panel=NETWORK)


@dataclass(frozen=True, kw_only=True)
class StylizeConfig(common.ReadsFiles, common.UsesModel, common.Computes):
    content: common.Images = common.images()
    output: Path | None = option(
        None,
        "Image to write; with a trailing /, or for several contents, a folder.",
        "-o",
        "--output",
        path="either",
        panel=OUTPUT,
        cli_required=True,
    )
    style: common.Images = required(
        "Image to take the style of; can be given several times, to mix styles.", cli_type=list[str]
    )
    style_weight: Sequence[float] = option(
        (),
        "Weight of a style; given once for each --style, in their order.",
        cli_type=list[float],
        minimum=0,
        maximum=1e6,
        shown_default="equal weights",
        panel=METHOD,
    )
    mask: Sequence[str] = option(
        (),
        "Image that is white where a style holds, or all; given once for each --style, in their order.",
        cli_type=list[str],
        shown_default="all",
        panel=METHOD,
    )
    alpha: float | None = by_model("alpha")
    tv: float | None = by_model("tv")
    content_layer: Sequence[str] = layers("content", "conv4, or relu4_2 for vgg19 and vgg16")
    style_layer: Sequence[str] = layers("style", "conv1 to conv5, or relu1_1 to relu5_1 for vgg19 and vgg16")
    style_loss: str | None = by_model("style_loss")
    pooling: str = same(Stylize, "pooling")
    init: Any = same(Stylize, "init")
    size: int | None = by_model("size")
    scales: str | None = option(
        None,
        "Long sides of the result from coarse to fine in pixels, as in 96,192.",
        cli_type=str,
        shown_default="doubling up to --size for cifarnet, else by the square root of 2",
        panel=OUTPUT,
    )
    steps: str | None = option(
        None,
        "Number of optimization steps at each scale, as in 200,100; the last holds for the rest.",
        cli_type=str,
        shown_default="100 for cifarnet, 1000,500 for other models",
        panel=TRAINING,
    )
    style_scale: float = same(Stylize, "style_scale")
    optimizer: str | None = by_model("optimizer")
    lr: float | None = by_model("lr")
    averaging: float | None = by_model("averaging")
    keep_colors: bool = same(Stylize, "keep_colors")
    snapshot_every: int | None = option(
        None, "Number of steps between images that are written as well.", minimum=1, shown_default="none", panel=OUTPUT
    )
    tile: int = same(Stylize, "tile")
    model: str = same(common.UsesModel, "model", default="cifarnet")
    seed: int = common.seed()
    save_every: float = common.save_every()
    overwrite: bool = common.overwrite()
    resume: bool = option(False, "Resume the image that was interrupted.", panel=OUTPUT)


@dataclass(frozen=True)
class PaintedFile:
    """A painting in a file, which is read when it is asked for: a folder of paintings need not fit into memory."""

    record: Mapping[str, Any]
    output: Path

    @property
    def image(self) -> "Image.Image":
        from PIL import Image

        return Image.open(self.output)

    def as_json(self) -> dict[str, Any]:
        """The record, as it is written beside the image."""
        return dict(self.record)


@dataclass(frozen=True)
class Stylized:
    """images: those that were painted by this call, in order.  failures: number of contents that could not be."""

    images: tuple[ImageResult | PaintedFile, ...]
    failures: int = 0

    def as_json(self) -> list[dict[str, Any]]:
        return [image.as_json() for image in self.images]


@function(StylizeConfig)
def stylize(call: Call[StylizeConfig]) -> Stylized:
    """Paint images in the style of another (Gatys et al. 2016).

    What the options leave open is tuned for the model. With `output`, several contents go to a folder, where a finished
    result newer than its inputs is left alone, and an interrupted one continues with `resume`. Without, contents, which
    may be in memory, are painted one after the other and returned.

        >>> import mlcli
        >>> painted = mlcli.stylize("cat.jpg", style="swirls.jpg", size=256)  # doctest: +SKIP
        >>> painted.images[0].image  # doctest: +SKIP

    Raises UsageError for options that do not go together, ImageError for images that cannot be read, TrainingError
    where the loss becomes infinite.
    """
    config = call.config
    if config.size and config.scales:
        raise UsageError("--size and --scales: the last of the scales is the size; give one of the two")
    given = {name: getattr(config, name) for name in OPEN} | {
        "content_layers": layer_weights(config.content_layer),
        "style_layers": layer_weights(config.style_layer),
        "scales": numbers("--scales", config.scales),
        "steps": numbers("--steps", config.steps),
    }
    styles = [one_image(style, number) for number, style in enumerate(listed(config.style))]
    weights = one_each("--style-weight", config.style_weight, styles, 1.0)
    masks = [None if mask == "all" else one_image(mask) for mask in one_each("--mask", config.mask, styles, "all")]
    start = None if isinstance(config.init, str) and config.init in STARTS else one_image(config.init)
    inputs = [*styles, *(mask for mask in masks if mask is not None), *([] if start is None else [start])]
    studio = Studio(config, given, styles, weights, masks, start)
    if config.output is None:
        return in_memory(config, studio)
    return into_files(call, studio, inputs)


@dataclass
class Studio:
    """What all paintings of a call have in common; the model is opened for the first one."""

    config: StylizeConfig
    given: Mapping[str, Any]
    styles: "Sequence[Path | MemoryImage]"
    weights: Sequence[float]
    masks: "Sequence[Path | MemoryImage | None]"
    start: "Path | MemoryImage | None"

    @cached_property
    def runtime(self) -> "Runtime":
        from mlcli.runtime.device import Runtime

        return Runtime.choose(self.config.device, self.config.precision).for_training()

    @cached_property
    def model(self) -> "Model":
        from mlcli.models import registry

        return registry.load(self.config.model, self.config.weights).to(self.runtime)

    @cached_property
    def method(self) -> Stylize:
        tuned = configs.stylize(self.model.architecture)
        tuned = replace(tuned, **{name: value for name, value in self.given.items() if value is not None})
        own = {name: getattr(self.config, name) for name in ("style_scale", "pooling", "keep_colors", "tile", "seed")}
        return replace(tuned, **own, init=self.config.init if self.start is None else str(self.start))

    @cached_property
    def extractor(self) -> "FeatureExtractor":
        from mlcli.api import layer_names
        from mlcli.methods.painting import style_transfer

        found = style_transfer.open_layers(self.model, self.method, self.runtime)
        named = [*(self.given["content_layers"] or ()), *(self.given["style_layers"] or ())]
        layer_names.addresses(self.model, [name for name, _ in named])
        return found

    @cached_property
    def style_images(self) -> list[Any]:
        from mlcli.imaging import image_io
        from mlcli.methods.painting.style_losses import Style

        return [
            Style(self.read(style), weight, image_io.to_gray(self.read(mask))[0] if mask else None)
            for style, weight, mask in zip(self.styles, self.weights, self.masks, strict=True)
        ]

    @cached_property
    def start_image(self) -> "Tensor | None":
        return None if self.start is None else self.read(self.start)

    @property
    def options(self) -> dict[str, Any]:
        """What a record says of the options."""
        return {name: plain(value) for name, value in asdict(self.method).items()} | {
            "style": [str(style) for style in self.styles],
            "style_weight": list(self.weights),
            "mask": [None if mask is None else str(mask) for mask in self.masks],
            "model": self.config.model,
            "weights": self.config.weights and str(self.config.weights),
            "precision": self.runtime.precision,
        }

    def read(self, image: "Path | MemoryImage") -> "Tensor":
        from mlcli.imaging import image_io

        return image_io.to_unit(image_io.read(image)).to(self.runtime.device)

    def begin(self, content: "Path | MemoryImage") -> "Stylization":
        from mlcli.methods.painting import style_transfer

        return style_transfer.Stylization(
            self.extractor, self.read(content), self.style_images, self.method, self.start_image
        )


def in_memory(config: StylizeConfig, studio: Studio) -> Stylized:
    """Paint without writing anything."""
    from mlcli.api.paintings import told_of

    contents, failures = named(config.content)
    painted: list[ImageResult] = []
    for content in contents:
        work, began = studio.begin(content), time.monotonic()
        with Progress(work.total, str(content)) as bar:
            for progress in work.steps():
                height, width = progress.size
                bar.to(progress.step, f"{width} x {height}  loss {progress.losses.total:.4g}")
        options = {"content": str(content), **studio.options}
        told = told_of(work, studio.model, options, progress, time.monotonic() - began)
        painted.append(ImageResult.written(work.result(), told, None))
    return Stylized(tuple(painted), failures)


def into_files(call: Call[StylizeConfig], studio: Studio, inputs: "Sequence[Path | MemoryImage]") -> Stylized:
    """Paint what is out of date."""
    from mlcli.api import paintings as files_of
    from mlcli.api.inputs import file_names
    from mlcli.api.outputs import claim_folder, refuse_existing_folder
    from mlcli.io import locks
    from mlcli.io.files import check_writable, sweep
    from mlcli.models.sources.builtin import EMBEDDED
    from mlcli.models.sources.torchvision_models import weights_path

    config, output = call.config, call.config.output
    assert output is not None
    paintings, problems = files_of.paintings(file_names(config.content), output)
    if len(paintings) == 1:
        call.hold(locks.file_locked(paintings[0].target))
    else:
        claim_folder(call, output, lambda: refuse_existing_folder(output, True))
    for folder in {painting.target.parent for painting in paintings}:
        sweep(folder)
    wanted = [
        painting
        for painting in paintings
        if painting.wanted(
            inputs, config.overwrite, config.resume, problems.append, snapshot_every=config.snapshot_every
        )
    ]
    for problem in problems:
        complain(problem)
    if wanted:
        check_writable(wanted[0].target)
        if config.model == EMBEDDED and os.path.isfile(weights_path("vgg19")):
            say("the weights of vgg19 are on this disk; --model vgg19 paints finer and takes longer")
    painted = list(_painted(config, studio, wanted, inputs, alone=len(paintings) == 1))
    done = tuple(painting for painting in painted if painting is not None)
    return Stylized(done, len(problems) + len(painted) - len(done))


def _painted(
    config: StylizeConfig,
    studio: Studio,
    wanted: "Sequence[Painting]",
    inputs: "Sequence[Path | MemoryImage]",
    *,
    alone: bool,
) -> Iterator[PaintedFile | None]:
    """Each painting when it is finished; None for one that failed and is named. An only one raises its error."""
    from mlcli.imaging import image_io
    from mlcli.io import locks, tally

    for painting in wanted:
        lock = ExitStack()
        try:
            if not alone:  # the one of an only image is held already
                lock.enter_context(locks.file_locked(painting.target))
            work = studio.begin(painting.content)
            image_io.require_room(painting.target, *work.size)
            told = painting.paint(
                work,
                studio.model,
                studio.options,
                inputs,
                resume=config.resume,
                snapshot_every=config.snapshot_every,
                save_every=config.save_every,
            )
            yield PaintedFile(told, painting.target)
        except Interrupted:
            raise
        except MlcliError as error:
            if alone:
                raise
            tally.current().leave_out(painting.content, "image{s} that could not be painted")
            complain(error if isinstance(error, ImageError) else f"{painting.content}: {error}")
            yield None
        finally:
            lock.close()


def layer_weights(given: Sequence[str]) -> tuple[tuple[str, float], ...] | None:
    """`conv1=256` and `conv2` to (address, weight). Raises UsageError."""
    found = []
    for text in listed(given):
        address, sign, weight = text.partition("=")
        try:
            value = float(weight) if sign else 1.0
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise UsageError(f"{text}: the weight of a layer is a number greater than 0, as in {address}=0.5")
        found.append((address, value))
    return tuple(found) or None


def numbers(name: str, text: str | None) -> tuple[int, ...] | None:
    """`96,192` to (96, 192). Raises UsageError."""
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.strip().isascii() and part.strip().isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"{name} {text}: takes whole numbers greater than 0 with commas between them, as in 96,192")
    return tuple(int(part) for part in parts)


def one_each(name: str, values: Any, styles: Sequence[Any], default: Any) -> list[Any]:
    """As many values as styles. Raises UsageError for another number, and for weights that are all 0."""
    values = listed(values)
    if not values:
        return [default] * len(styles)
    if len(values) != len(styles):
        raise UsageError(
            f"{name}: given {counted(len(values), 'time')} for {counted(len(styles), 'style')}; give one for each, in "
            "their order"
        )
    if not any(values):
        raise UsageError(f"{name}: all are 0; one at least has to count")
    return values

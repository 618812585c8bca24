"""Runs that train translators of images: what `mlcli.pix2pix` and `mlcli.cyclegan` share."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlcli.api import common
from mlcli.api.events import Progress, complain
from mlcli.api.train import Training
from mlcli.methods.generation.configs import Translation
from mlcli.options import COMPUTING, DATA, NETWORK, OUTPUT, option, same

if TYPE_CHECKING:
    from mlcli.data.pairs import ImageSpec, PairSet, ResizeCrop, UnpairedSets
    from mlcli.methods.generation.cyclegan import CycleGAN
    from mlcli.methods.generation.pix2pix import Pix2Pix
    from mlcli.models.translators import Translator
    from mlcli.runtime.processes import Processes
    from mlcli.training.run_folder import Run

Method = TypeVar("Method", bound=Translation)
Data = TypeVar("Data", bound="PairSet | UnpairedSets")


def channels(side: str) -> Any:
    return option(
        3, f"Number of channels of the images in {side}: 1 for gray, 3 for color.", minimum=1, maximum=3, panel=DATA
    )


def labels(side: str) -> Any:
    return option(
        0,
        f"Number of classes of the label maps in {side}; 0 where {side} holds images.",
        minimum=0,
        maximum=256,
        panel=DATA,
    )


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(common.Trains):
    """Data, networks and optimization of translators."""

    size: int | str = option(
        "256", "Size of the training images in pixels: SIDE or WIDTHxHEIGHT.", cli_type=str, panel=DATA
    )
    load_size: int | str | None = option(
        None,
        "Size in pixels to which images are resized before a window of --size is cropped at random.",
        cli_type=str,
        shown_default="286/256 of --size",
        panel=DATA,
    )
    preprocess: str = same(Translation, "preprocess")
    channels_a: int = channels("A")
    channels_b: int = channels("B")
    labels_a: int = labels("A")
    labels_b: int = labels("B")
    max_images: int | None = option(
        None,
        "Largest number of images to train with, evenly spread over the data.",
        minimum=1,
        shown_default="all",
        panel=DATA,
    )
    generator: str = same(Translation, "generator")
    filters: int = same(Translation, "filters")
    norm: str = same(Translation, "norm")
    dropout: float = same(Translation, "dropout")
    upsampling: str = same(Translation, "upsampling")
    discriminator: str = same(Translation, "discriminator")
    discriminator_filters: int = same(Translation, "discriminator_filters")
    layers: int = same(Translation, "layers")
    scales: int = same(Translation, "scales")
    init: str = same(Translation, "init")
    init_gain: float = same(Translation, "init_gain")
    from_run: Path | None = option(
        None,
        "Run, or its model.safetensors, whose generators the training starts from.",
        "--from",
        path="input",
        panel=NETWORK,
    )
    loss: str = same(Translation, "loss")
    gradient_penalty: float = same(Translation, "gradient_penalty")
    flip: bool = same(Translation, "flip")
    epochs: int = same(Translation, "epochs")
    steps: int | None = common.steps_limit()
    batch_size: int = same(Translation, "batch_size")
    accumulate: int = same(Translation, "accumulate")
    lr: float = same(Translation, "lr")
    beta1: float = same(Translation, "beta1")
    beta2: float = same(Translation, "beta2")
    schedule: str = same(Translation, "schedule")
    ema: float = same(Translation, "ema")
    save_every: float = same(common.Trains, "save_every", default=300)
    sample_every: int | None = option(
        None, "Number of steps between sample images.", minimum=1, shown_default="once per epoch", panel=OUTPUT
    )
    tensorboard: bool = option(False, "Write the curves for TensorBoard into the run as well.", panel=OUTPUT)
    compile: bool = option(False, "Compile the generators: a slow start, then faster steps on GPUs.", panel=COMPUTING)


def hyperparameters(kind: type[Method], options: Mapping[str, Any]) -> Method:
    """The hyperparameters of these options. Raises UsageError for a text that is no size."""
    from mlcli.api.inputs import height_and_width

    values = {field.name: options[field.name] for field in fields(kind) if options.get(field.name) is not None}
    values["size"] = height, width = height_and_width(options["size"])
    load_size = options["load_size"]
    values["load_size"] = (
        height_and_width(load_size, "--load-size")
        if load_size
        else (round(height * 286 / 256), round(width * 286 / 256))
    )
    return kind(**values)


def image_specs(options: Mapping[str, Any]) -> "tuple[ImageSpec, ImageSpec]":
    """What the images of A and those of B are."""
    from mlcli.data.pairs import ImageSpec

    a, b = (ImageSpec(options[f"channels_{side}"], options[f"labels_{side}"]) for side in "ab")
    return a, b


def resize_crop(config: Translation) -> "ResizeCrop":
    """How images are brought to the size of training."""
    from mlcli.data.pairs import ResizeCrop
    from mlcli.models.translators import multiple

    step = multiple(config.generator, config.size)
    return ResizeCrop(config.size, config.load_size, config.preprocess, config.flip, step)


def read(load: Callable[..., Data], total: int, title: str, config: common.Trains) -> Data:
    """Load a data set, with progress; the listener is told of what is left out of it.

    load: takes `workers`, `budget_bytes` and `progress`.  total: number of items that it reads.
    """
    from mlcli.api import runs

    with Progress(total, f"reading {title}") as bar:
        data = load(workers=config.workers, budget_bytes=config.cache_bytes, progress=lambda done, _: bar.to(done))
    for problem in data.problems:
        complain(problem)
    for dataset in data.datasets:
        if not isinstance(dataset.held, list):
            runs.say_where_they_are(title, dataset.held, config)
    return data


def summary(data: "PairSet | UnpairedSets", hashes: Mapping[str, str]) -> dict[str, Any]:
    """What config.json says of a data set.  hashes: of the lists of its files."""
    import torch

    some = torch.arange(min(8, len(data)))
    pairs = [data.batch(some[index : index + 1]) for index in range(len(some))]
    ranges = {
        f"value_range_{name}": [
            min(float(pair[side].min()) for pair in pairs),
            max(float(pair[side].max()) for pair in pairs),
        ]
        for side, name in enumerate("AB")
    }
    return {
        "count": len(data),
        "left_out": len(data.problems),
        "specs": [asdict(spec) for spec in data.specs],
        "size": list(data.resize_crop.size),
        **ranges,
        "hash": "-".join(hashes.values()),
    }


def check_batch(config: Translation, items: int, processes: "Processes") -> None:
    """Raise UsageError where a batch cannot be divided among the processes, or into the parts to accumulate."""
    from mlcli.errors import UsageError

    batch = min(config.batch_size, items)
    processes.check_batch(batch)
    if batch // processes.count % config.accumulate:
        raise UsageError(f"--accumulate {config.accumulate}: does not divide a batch of {batch // processes.count}")


def start_from(given: str | Path, translators: "Mapping[str, Translator]") -> None:
    """Give the translators, by direction, the weights of another run's. Raises UsageError where they do not fit."""
    from mlcli.errors import UsageError
    from mlcli.models import translators as registry

    for direction, translator in translators.items():
        other = registry.load(given, direction)
        ours, theirs = ({"generator": one.architecture, **one.options} for one in (translator, other))
        if ours != theirs:
            different = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
            raise UsageError(
                f"--from {given}: its network has other options than this one: "
                + ", ".join(f"{name} {theirs.get(name)}, not {ours.get(name)}" for name in different)
                + "; give those that its config.json lists"
            )
        translator.network.load_state_dict(other.network.state_dict())


def total_steps(config: Translation, items: int, options: Mapping[str, Any]) -> int:
    """Number of steps of the whole run, which the learning-rate schedule spans."""
    from mlcli.api import runs

    return runs.plan(items, config, options).steps


def train(
    command: str,
    run: "Run",
    method: "Pix2Pix | CycleGAN",
    config: Translation,
    options: Mapping[str, Any],
    data: Mapping[str, dict[str, Any]],
    processes: "Processes",
    *,
    resume: bool,
) -> Training:
    """Start or resume the run, and train to its end.

    options: those in force; config.json keeps them with the hyperparameters, sizes as the command line has them.
    """
    from mlcli.api import runs
    from mlcli.training.tensorboard import Curves

    if options["from_run"]:
        start_from(options["from_run"], method.translators)
    curves = Curves(run) if options["tensorboard"] else None
    plan = runs.plan(len(method.data), config, options, sample_every=options["sample_every"])
    if processes.main:
        numbers = {name: value for name, value in asdict(config).items() if name not in ("size", "load_size")}
        runs.start(run, command, {**options, **numbers}, data, resume=resume)
    processes.wait()
    if options["compile"]:
        for translator in method.translators.values():
            translator.network.compile()
    metrics = runs.fit(run, method, plan, processes, curves=curves)
    if curves:
        curves.close()
    runs.finish(run, options, processes, metrics)
    return Training(run.folder, metrics)

"""What the commands that train translators share: their options, config, data and run."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from mlcli.commands._adversarial import Loss, Schedule
from mlcli.commands._report import Progress, complain, say
from mlcli.methods.generation.configs import Translation


class Generator(StrEnum):
    unet = "unet"
    resnet_9 = "resnet-9"
    resnet_6 = "resnet-6"
    pix2pixhd = "pix2pixhd"


class Norm(StrEnum):
    batch = "batch"
    instance = "instance"
    none = "none"


class Upsampling(StrEnum):
    transposed = "transposed"
    resize = "resize"


class Discriminator(StrEnum):
    patch = "patch"
    pixel = "pixel"


class Init(StrEnum):
    normal = "normal"
    xavier = "xavier"
    kaiming = "kaiming"
    orthogonal = "orthogonal"


class Preprocess(StrEnum):
    resize_and_crop = "resize-and-crop"
    crop = "crop"
    scale_width = "scale-width"
    scale_width_and_crop = "scale-width-and-crop"
    none = "none"


def choices(config: Translation) -> SimpleNamespace:
    """The defaults of a config that are choices, as the enumerations that the command line wants."""
    kinds = (Generator, Norm, Upsampling, Discriminator, Init, Loss, Schedule, Preprocess)
    return SimpleNamespace(**{kind.__name__.lower(): kind(getattr(config, kind.__name__.lower())) for kind in kinds})


Size = Annotated[str, typer.Option("--size", help="SIDE or WIDTHxHEIGHT that is trained at.")]
Load = Annotated[
    str | None,
    typer.Option("--load-size", help="What images are brought to before a window is cut; default 286/256 of --size."),
]
PreprocessOption = Annotated[Preprocess, typer.Option("--preprocess", help="How images come to --size.")]
ChannelsA = Annotated[int, typer.Option("--channels-a", min=1, max=3, help="1 for gray images in A, else 3.")]
ChannelsB = Annotated[int, typer.Option("--channels-b", min=1, max=3, help="1 for gray images in B, else 3.")]
LabelsA = Annotated[int, typer.Option("--labels-a", min=0, max=256, help="A holds maps of so many classes.")]
LabelsB = Annotated[int, typer.Option("--labels-b", min=0, max=256, help="B holds maps of so many classes.")]
MaxImages = Annotated[int | None, typer.Option("--max-images", min=1, help="Train with so many alone, evenly spread.")]
GeneratorOption = Annotated[Generator, typer.Option("--generator", help="Architecture of the generator.")]
Filters = Annotated[int, typer.Option("--filters", min=1, help="Channels of the generator's largest maps.")]
NormOption = Annotated[Norm, typer.Option("--norm", help="Of all networks; of one image at a time, batch is its own.")]
Dropout = Annotated[float, typer.Option("--dropout", min=0, max=0.9, help="Share of the generator's units.")]
UpsamplingOption = Annotated[
    Upsampling, typer.Option("--upsampling", help="resize cannot make the checkerboards that transposed can.")
]
DiscriminatorOption = Annotated[Discriminator, typer.Option("--discriminator", help="What it judges.")]
DiscriminatorFilters = Annotated[int, typer.Option("--discriminator-filters", min=1)]
Layers = Annotated[
    int, typer.Option("--layers", min=1, help="Strided layers of the discriminator: 3 judges patches of 70 pixels.")
]
Scales = Annotated[
    int, typer.Option("--scales", min=1, max=4, help="Discriminators, each at half the size of the one before.")
]
InitOption = Annotated[Init, typer.Option("--init", help="How weights begin.")]
InitGain = Annotated[float, typer.Option("--init-gain", min=0)]
From = Annotated[
    Path | None, typer.Option("--from", help="A run, or its model.safetensors, whose generators to begin with.")
]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training images.")]
Batch = Annotated[int, typer.Option("--batch-size", min=1)]
Accumulate = Annotated[
    int, typer.Option("--accumulate", min=1, help="Parts that a batch is computed in, to save memory.")
]
Rate = Annotated[float, typer.Option("--lr", min=0, help="Of both players.")]
Beta1 = Annotated[float, typer.Option("--beta1", min=0, max=0.999, help="Adam's first moment.")]
Beta2 = Annotated[float, typer.Option("--beta2", min=0, max=0.9999, help="Adam's second moment.")]
Ema = Annotated[
    float, typer.Option("--ema", min=0, max=0.99999, help="Keep the average of the generator's weights, as 0.999.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the generators: a slow start, faster steps on GPUs.")]
Tensorboard = Annotated[bool, typer.Option("--tensorboard", help="Write the curves for TensorBoard into the run too.")]
SampleEvery = Annotated[
    int | None, typer.Option("--sample-every", min=1, help="Steps between samples; default once an epoch.")
]


def config(kind: type[Translation], options: Mapping[str, Any]) -> Translation:
    """The config of the options in force. Raises UsageError for sizes that are none."""
    from mlcli.api.inputs import height_and_width

    values = {field.name: options[field.name] for field in fields(kind) if options.get(field.name) is not None}
    values["size"] = height, width = height_and_width(options["size"])
    load = options["load"]
    values["load"] = height_and_width(load) if load else (round(height * 286 / 256), round(width * 286 / 256))
    return kind(**values)


def stored(config: Translation, options: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json keeps: the options, with the numbers of the config; sizes as the command line has them."""
    numbers = {name: value for name, value in asdict(config).items() if name not in ("size", "load")}
    return {**options, **numbers}


def kinds(options: Mapping[str, Any]) -> tuple:
    """The kinds of images of A and of B."""
    from mlcli.data.pairs import ImageSpec

    return tuple(ImageSpec(options[f"channels_{side}"], options[f"labels_{side}"]) for side in "ab")


def framing(config: Translation):
    """How images come to the size of training."""
    from mlcli.data.pairs import ResizeCrop
    from mlcli.models.translators import multiple

    step = multiple(config.generator, config.size)
    return ResizeCrop(config.size, config.load, config.preprocess, config.flip, step)


def read(load: Callable, total: int, what: str, *, workers: int | None, processes, quiet: bool):
    """Load a data set with a bar; what cannot serve is named on stderr, by one process of several, and left out."""
    with Progress(total, f"reading {what}", quiet=quiet or not processes.main) as bar:
        data = load(workers=workers, progress=lambda done, _: bar.to(done))
    for problem in data.problems if processes.main else ():
        complain(problem)
    return data


def summary(data, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What config.json says of a data set."""
    import torch

    some = torch.arange(min(8, len(data)))
    pairs = [data.batch(some[index : index + 1]) for index in range(len(some))]
    ranges = {
        f"value_range_{side}": [
            min(float(pair[place].min()) for pair in pairs),
            max(float(pair[place].max()) for pair in pairs),
        ]
        for place, side in enumerate("AB")
    }
    return {
        "count": len(data),
        "left_out": len(data.problems),
        "kinds": [asdict(kind) for kind in data.kinds],
        "size": list(data.framing.size),
        **ranges,
        "hash": "-".join(hashes.values()),
    }


def check_batch(config: Translation, items: int, processes) -> None:
    """Raise UsageError where the batch cannot be cut as it must be."""
    from mlcli.errors import UsageError

    batch = min(config.batch_size, items)
    processes.check_batch(batch)
    if batch // processes.count % config.accumulate:
        raise UsageError(f"--accumulate {config.accumulate}: does not divide a batch of {batch // processes.count}")


def begin_with(given: Path, translators: Mapping) -> None:
    """Give the translators, by direction, the weights of another run's. Raises UsageError where they do not fit."""
    from mlcli.errors import UsageError
    from mlcli.models import translators as registry

    for direction, translator in translators.items():
        other = registry.load(given, direction)
        if (other.architecture, other.options) != (translator.architecture, translator.options):
            raise UsageError(f"--from {given}: its generator is {other.options}, not {translator.options}")
        translator.network.load_state_dict(other.network.state_dict())


def train(command: str, run, method, config: Translation, options: Mapping, data: Mapping, processes, *, resume, quiet):
    """Begin or go on with the run, and train to its end."""
    from mlcli.api import runs
    from mlcli.training.plan import Plan
    from mlcli.training.tensorboard import Curves

    curves = Curves(run) if options["tensorboard"] else None
    plan = Plan(
        len(method.data),
        config.batch_size,
        config.epochs,
        config.seed,
        max_steps=options["steps"],
        save_every=options["save_every"],
        sample_every=options["sample_every"],
    )
    if processes.main:
        runs.start(run, command, stored(config, options), data, resume=resume)
    processes.wait()
    if options["compile"]:
        for translator in method.translators.values():
            translator.network.compile()
    figures = runs.fit(run, method, plan, processes, curves=curves)
    if curves:
        curves.close()
    if processes.main:
        say(f"{run.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in figures.items()), quiet)
    processes.close()


def steps(config: Translation, items: int, options: Mapping) -> int:
    """The steps of the whole run, by which the rates go."""
    from mlcli.training.plan import Plan

    return Plan(items, config.batch_size, config.epochs, config.seed, max_steps=options["steps"]).steps

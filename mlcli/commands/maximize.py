"""`mlcli maximize`"""

from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import Progress, complain, say
from mlcli.methods.visualization import configs

DEFAULT = configs.Maximization()
SMALL, FINE, DREAM = configs.SMALL_IMAGES, configs.FINE, configs.DREAM
SINGLE, TILE = 256, 96  # pixels, the least side of a single image, and about that of one in a grid
MOST = 512  # images of one command


class Param(StrEnum):
    fourier = "fourier"
    pixel = "pixel"


DEFAULT_PARAM = Param(DEFAULT.param)


def _help(text: str, field: str) -> str:
    """The text and the default, which depends on the network, on the layer and on what is started from."""
    own, fine, small, dream = (f"{getattr(each, field):g}" for each in (DEFAULT, FINE, SMALL, DREAM))
    of_fine = f", for a layer that sees less than a third of the side {fine}" if fine != own else ""
    of_small = f", for a network of small images {small}" if small != own else ""
    of_dream = f", with --init FILE {dream}" if dream != own else ""
    return f"{text}; default {own}{of_fine}{of_small}{of_dream}."


@option.reads_images
def run(
    output: option.Image,
    objective: Annotated[
        str | None,
        typer.Argument(
            metavar="OBJECTIVE", help='Such as conv4:12, conv4:0-15, logit:cat, "conv4:12 - 2*tv".', show_default=False
        ),
    ] = None,
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    classes: option.Classes = None,
    interpolate: Annotated[
        tuple[str, str] | None,
        typer.Option("--interpolate", help="Two objectives: frames from the first to the second, aligned."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", min=2, help="Images of an interpolation.")] = 7,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Images of the same objective, for diversity(LAYER).")
    ] = 1,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=1,
            help="Side in pixels; default what the model resizes images to. With --init FILE, the short side, default "
            "that of the file, at most 512.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help=_help("Number of optimization steps", "steps"))
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", min=0, max=1000, help=_help("Learning rate of Adam", "lr"))
    ] = None,
    octaves: Annotated[
        int | None,
        typer.Option(
            "--octaves",
            min=1,
            max=12,
            help="Number of sizes, each 1.4 times the one before, at which the image is optimized in turn; default 4 "
            "with --init FILE, and for a class as many as lie between the model's own size and --size, otherwise 1.",
        ),
    ] = None,
    param: Annotated[Param, typer.Option("--param", help="What is changed: frequencies or pixels.")] = DEFAULT_PARAM,
    init: Annotated[str, typer.Option("--init", help="noise, or the file of an image to start from (DeepDream).")] = (
        "noise"
    ),
    jitter: Annotated[
        float | None,
        typer.Option(
            "--jitter", min=0, max=1, help=_help("Random shift at each step, a fraction of the side", "jitter")
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", min=0, max=0.9, help=_help("Random change of size, a fraction", "scale")),
    ] = None,
    rotate: Annotated[
        float | None, typer.Option("--rotate", min=0, help=_help("Random rotation in degrees", "rotation"))
    ] = None,
    snapshots: Annotated[
        str | None, typer.Option("--snapshots", help="Steps to show as well, such as 0,4,32.", show_default=False)
    ] = None,
    zoom: Annotated[
        int | None,
        typer.Option(
            "--zoom",
            min=1,
            help=f"Side of a pixel in the file; default what makes a single image at least {SINGLE} pixels large, in a "
            f"grid what makes tiles of up to {TILE}.",
        ),
    ] = None,
    seed: option.Seed = DEFAULT.seed,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Images at a time; default 64, to make large ones fewer."),
    ] = None,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Make the image that a unit, a layer or a class answers to most strongly.

    An objective is a sum of addresses with weights: a channel (conv4:12), a neuron (conv4:12@center, conv4:12@2,5), a
    whole layer (conv3, DeepDream), a class (logit:tiger), penalties (tv, l1, l2, blur) and the likeness of the images
    of a --batch, as in "conv4:12 + 0.5*conv5:7 - 100*diversity(conv4)". Several units (conv4:0-15, logit:0-9,
    conv2:all) make a grid. One that begins with a minus stands in parentheses: "(-conv4:12)".

    An image larger than the model's own size is seen whole by a channel. A class sees it through windows of the model's
    own size at random positions, and it grows to its size in octaves, so that the class fills it.
    """
    from mlcli.api.outputs import refuse_existing, write_beside
    from mlcli.errors import UsageError
    from mlcli.io import image_io
    from mlcli.methods.visualization import activation_maximization
    from mlcli.methods.visualization.objective_parser import parse
    from mlcli.methods.visualization.objectives import interpolation
    from mlcli.models import registry
    from mlcli.reporting import canvas
    from mlcli.runtime.device import Runtime

    refuse_existing(output, overwrite)
    image_io.output_format(output)
    if (objective is None) == (interpolate is None):
        raise UsageError("one OBJECTIVE, or --interpolate with two, is needed")
    if interpolate and batch > 1:
        raise UsageError("--batch: an interpolation is made of --frames")
    start = None if init == "noise" else _start(init, size)
    runtime = Runtime.choose(device, precision).for_training()
    chosen = registry.load(model, weights, classes=classes).to(runtime)
    chosen.require_classes()  # what it makes is classified at the end
    if precision == "auto":
        runtime = activation_maximization.with_fastest_precision(runtime, chosen)
    given = {"steps": steps, "lr": lr, "octaves": octaves, "jitter": jitter, "scale": scale, "rotation": rotate}
    if interpolate:
        ends = [parse(text, chosen) for text in interpolate]
        if max(map(len, ends)) > 1:
            raise UsageError("--interpolate: a range of units makes many objectives; name one unit on each side")
        objectives = interpolation(ends[0][0], ends[1][0], frames)
    else:
        objectives = [each for each in parse(objective, chosen) for _ in range(batch)]
        if len(objectives) > MOST:
            raise UsageError(
                f"{objective}: makes {len(objectives)} images, and one command makes at most {MOST}; name a range of "
                f"units, such as {objective.replace(':all', ':0-15') if ':all' in objective else 'conv4:0-15'}"
            )
    config = configs.maximization(
        chosen.preprocessing.crop, field=activation_maximization.receptive_field(objectives), dream=start is not None
    )
    config = replace(config, param=param.value, seed=seed, **{k: v for k, v in given.items() if v is not None})
    shown = _steps(snapshots, config.steps)
    side = size or chosen.preprocessing.resize or chosen.preprocessing.crop
    sides = (side, side) if start is None else tuple(start.shape[1:])
    grid = _grid(objectives, [*shown, config.steps], max(sides), frames if interpolate else 0, batch, zoom)
    enlarged = zoom or max(1, -(-SINGLE // min(sides)))
    if grid is None:
        image_io.require_room(output, *(side * enlarged for side in sides))
    else:
        lines = int(grid["labels"] is not None)
        count, columns = len(objectives) * (len(shown) + 1), grid["columns"]
        image_io.require_room(output, *canvas.grid_size(count, *sides, columns=columns, side=grid["side"], lines=lines))
    group = frames if interpolate else batch
    at_once = max(1, (batch_size or activation_maximization.default_batch_size(*sides)) // group) * group
    batches = -(-len(objectives) // at_once)
    with Progress(batches * config.steps, "maximize", quiet=quiet) as bar:
        made = activation_maximization.maximize(
            chosen,
            objectives,
            config,
            runtime,
            size=sides,
            group=group,
            aligned=interpolate is not None,
            start=start,
            snapshots=shown,
            batch_size=at_once,
            on_step=lambda done, value: bar.to(done, f"objective {value:.4g}"),
        )
    if any(term.text.startswith("logit:") for each in objectives for _, term in each.terms):
        for words in _of_former_classes(model):
            complain(words)
    drawn = canvas.grid(_tiles(made), **grid) if grid else canvas.enlarged(made.images[0], enlarged)
    image_io.write(drawn, output)
    called = activation_maximization.predicted_classes(chosen, made.images, runtime)
    entries = [
        {"objective": str(each), "value": value, "class": name, "probability": probability}
        for each, value, (name, probability) in zip(objectives, made.values, called, strict=True)
    ]
    options = {
        "objective": objective,
        "model": model,
        "weights": weights,
        "classes": classes,
        "interpolate": interpolate,
        "frames": frames,
        "batch": batch,
        "size": list(made.images.shape[2:]),
        "init": init,
        "snapshots": shown,
        "zoom": zoom,
        "batch_size": at_once,
        "precision": runtime.precision,
        **asdict(config),
    }
    write_beside(output, "maximize", options, chosen, images=entries)
    first, more = entries[0], f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    say(f"{output}: {first['objective']} = {first['value']:.4g}{more}", quiet)


def _steps(text: str | None, steps: int) -> list[int]:
    """The numbers of --snapshots, in order; the end is shown anyway."""
    from mlcli.errors import UsageError

    if text is None:
        return []
    numbers = text.split(",")
    if not all(n.isascii() and n.isdigit() and int(n) <= steps for n in numbers):
        raise UsageError(f"--snapshots {text}: numbers of steps from 0 to {steps} are expected, such as 0,4,32")
    return sorted(set(map(int, numbers)) - {steps})


def _start(path: str, size: int | None):
    """The image (3, H, W) to start from, its short side `size` pixels, or at most 512."""
    from mlcli.data import preprocessing
    from mlcli.io import image_io

    image = preprocessing.shorten(image_io.read(path))
    return preprocessing.resize(image, size or min(512, *image.shape[1:]))


def _of_former_classes(model: str) -> list[str]:
    """What to say of an image of a class that a network was taught by its last layer alone; nothing of others."""
    from mlcli.errors import RunError
    from mlcli.training.run_folder import Run

    try:
        config = Run(model).load_config()
    except RunError:  # no run, and what its model.safetensors says is all that is known
        return []
    options = config["options"]
    if config["command"] != "finetune" or options.get("freeze") != "all":
        return []
    return [
        f"--model {model}: its classes are sums of features that {options.get('model')} learned of other classes, and "
        "an image made for one may show one of those; to see what the new classes look like, let deeper layers learn: "
        f"mlcli finetune {options.get('data')} --freeze none -o NEW, and maximize with --model NEW"
    ]


def _grid(objectives, states: list[int], side: int, frames: int, batch: int, zoom: int | None) -> dict | None:
    """How `canvas.grid` lays out a row of snapshots, of frames or of a batch, or a range; None for a single image.

    states: the steps after which images are shown. side: the longer one of an image.
    """
    if len(objectives) * len(states) == 1:
        return None
    names = _labels(objectives, frames)
    if len(states) > 1:
        names = [f"{name} step {step}".strip() for name in names for step in states]
    columns = len(states) if len(states) > 1 else frames or (batch if batch > 1 else None)
    return {"labels": names if any(names) else None, "columns": columns, "side": side * zoom if zoom else TILE}


def _tiles(made):
    """The images of all states, (N, 3, H, W), those of an objective side by side."""
    import torch

    return torch.stack([*made.snapshots.values(), made.images], 1).flatten(0, 1).expand(-1, 3, -1, -1)


def _labels(objectives, frames: int) -> list[str]:
    """What tells the objectives apart: a frame's place from 0 to 1, or the unit of a range."""
    if frames:
        return [f"{index / (frames - 1):.2f}" for index in range(frames)]
    shared = set.intersection(*({term.text for _, term in each.terms} for each in objectives))
    own = [[(factor, term) for factor, term in each.terms if term.text not in shared] for each in objectives]
    return ["-" * (terms[0][0] < 0) + terms[0][1].text if terms else "" for terms in own]

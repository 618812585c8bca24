"""`mlcli maximize`"""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import Progress, say
from mlcli.methods.recipes import Maximization as Recipe

DEFAULT = Recipe()
TILE = 96  # pixels, about the side of a picture in a grid


class Param(StrEnum):
    fourier = "fourier"
    pixel = "pixel"


DEFAULT_PARAM = Param(DEFAULT.param)


def run(
    output: option.Picture,
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
    frames: Annotated[int, typer.Option("--frames", min=2, help="Pictures of an interpolation.")] = 7,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Pictures of the same objective, for diversity(LAYER).")
    ] = 1,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=1, help="Side in pixels; default the model's own. With --init FILE, its short side."
        ),
    ] = None,
    steps: option.Steps = DEFAULT.steps,
    lr: Annotated[float, typer.Option("--lr", min=0, max=1000, help="Step size of Adam.")] = DEFAULT.lr,
    param: Annotated[Param, typer.Option("--param", help="What is changed: frequencies or pixels.")] = DEFAULT_PARAM,
    init: Annotated[str, typer.Option("--init", help="noise, or a picture to start from.")] = "noise",
    jitter: Annotated[
        float, typer.Option("--jitter", min=0, max=1, help="Random shift at each step, a share of the side.")
    ] = DEFAULT.jitter,
    scale: Annotated[
        float, typer.Option("--scale", min=0, max=0.9, help="Random change of size, a share.")
    ] = DEFAULT.scale,
    rotate: Annotated[float, typer.Option("--rotate", min=0, help="Random turn in degrees.")] = DEFAULT.rotation,
    snapshots: Annotated[
        str | None, typer.Option("--snapshots", help="Steps to show as well, such as 0,4,32.", show_default=False)
    ] = None,
    zoom: Annotated[
        int | None,
        typer.Option("--zoom", min=1, help=f"Side of a pixel; default 1, in a grid up to tiles of {TILE}."),
    ] = None,
    seed: option.Seed = DEFAULT.seed,
    batch_size: option.BatchSize = 64,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Make the picture that a unit, a layer or a class answers to most strongly.

    An objective is a sum of addresses with weights: a channel (conv4:12), a neuron (conv4:12@center, conv4:12@2,5), a
    whole layer (conv3, DeepDream), a class (logit:cat), penalties (tv, l1, l2, blur) and the likeness of the pictures
    of a --batch, as in "conv4:12 + 0.5*conv5:7 - 100*diversity(conv4)". Several units (conv4:0-15, conv4:all,
    logit:all) make a grid. One that begins with a minus stands in parentheses: "(-conv4:12)".
    """
    from mlcli.commands._result import refuse_existing, write_beside
    from mlcli.engine import canvas, images, models
    from mlcli.engine.runtime import Runtime
    from mlcli.errors import UsageError
    from mlcli.methods import maximization
    from mlcli.methods.expressions import parse
    from mlcli.methods.objectives import interpolation

    refuse_existing(output, overwrite)
    images.output_format(output)
    if (objective is None) == (interpolate is None):
        raise UsageError("one OBJECTIVE, or --interpolate with two, is needed")
    if interpolate and batch > 1:
        raise UsageError("--batch: an interpolation is made of --frames")
    shown = _steps(snapshots, steps)
    start = None
    if init != "noise":
        start = _start(init, size)
    runtime = Runtime.choose(device, precision).for_training()
    chosen = models.load(model, weights, classes=classes).to(runtime)
    chosen.require_classes()  # what it makes is classified at the end
    if interpolate:
        ends = [parse(text, chosen) for text in interpolate]
        if max(map(len, ends)) > 1:
            raise UsageError("--interpolate: a range of units makes many objectives; name one unit on each side")
        objectives = interpolation(ends[0][0], ends[1][0], frames)
    else:
        objectives = [each for each in parse(objective, chosen) for _ in range(batch)]
    side = size or chosen.preprocessing.crop
    sides = (side, side) if start is None else tuple(start.shape[1:])
    grid = _grid(objectives, [*shown, steps], max(sides), frames if interpolate else 0, batch, zoom)
    if grid is None:
        images.require_room(output, *sides)
    else:
        lines = int(grid["labels"] is not None)
        count, columns = len(objectives) * (len(shown) + 1), grid["columns"]
        images.require_room(output, *canvas.grid_size(count, *sides, columns=columns, side=grid["side"], lines=lines))
    group = frames if interpolate else batch
    recipe = Recipe(steps, lr, param.value, jitter, scale, rotate, seed)
    batches = -(-len(objectives) // (max(1, batch_size // group) * group))
    with Progress(batches * steps, "maximize", quiet=quiet) as bar:
        made = maximization.maximise(
            chosen,
            objectives,
            recipe,
            runtime,
            size=sides,
            group=group,
            aligned=interpolate is not None,
            start=start,
            snapshots=shown,
            batch_size=batch_size,
            on_step=lambda done, value: bar.to(done, f"objective {value:.4g}"),
        )
    images.write(made.pictures[0] if grid is None else canvas.grid(_tiles(made), **grid), output)
    called = maximization.called(chosen, made.pictures, runtime)
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
        "size": list(made.pictures.shape[2:]),
        "init": init,
        "snapshots": shown,
        "zoom": zoom,
        "batch_size": batch_size,
        "precision": runtime.precision,
        **asdict(recipe),
    }
    write_beside(output, "maximize", options, chosen, pictures=entries)
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
    """The picture (3, H, W) to start from, its short side `size` pixels, or at most 512."""
    from mlcli.engine import images, preprocessing

    picture = preprocessing.shorten(images.read(path))
    return preprocessing.resize(picture, size or min(512, *picture.shape[1:]))


def _grid(objectives, states: list[int], side: int, frames: int, batch: int, zoom: int | None) -> dict | None:
    """How `canvas.grid` lays out a row of snapshots, of frames or of a batch, or a range; None for a single picture.

    states: the steps after which pictures are shown. side: the longer one of a picture.
    """
    if len(objectives) * len(states) == 1 and zoom in (None, 1):
        return None
    names = _labels(objectives, frames)
    if len(states) > 1:
        names = [f"{name} step {step}".strip() for name in names for step in states]
    columns = len(states) if len(states) > 1 else frames or (batch if batch > 1 else None)
    return {"labels": names if any(names) else None, "columns": columns, "side": side * zoom if zoom else TILE}


def _tiles(made):
    """The pictures of all states, (N, 3, H, W), those of an objective side by side."""
    import torch

    return torch.stack([*made.snapshots.values(), made.pictures], 1).flatten(0, 1).expand(-1, 3, -1, -1)


def _labels(objectives, frames: int) -> list[str]:
    """What tells the objectives apart: a frame's place from 0 to 1, or the unit of a range."""
    if frames:
        return [f"{index / (frames - 1):.2f}" for index in range(frames)]
    shared = set.intersection(*({term.text for _, term in each.terms} for each in objectives))
    own = [[(factor, term) for factor, term in each.terms if term.text not in shared] for each in objectives]
    return ["-" * (terms[0][0] < 0) + terms[0][1].text if terms else "" for terms in own]

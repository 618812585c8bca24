"""`mlcli siamese-train`"""

from dataclasses import asdict, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import complain, say
from mlcli.methods import recipes
from mlcli.methods.recipes import Siamese as Recipe

if TYPE_CHECKING:
    from mlcli.engine.folders import ClassFolder
    from mlcli.engine.models import Model

DEFAULT = Recipe()
SMALL = "smallnet"
LARGEST = 48  # side in pixels by default: what takes minutes


class Loss(StrEnum):
    softmax = "softmax"
    triplet = "triplet"
    contrastive = "contrastive"
    weighted_l1 = "weighted-l1"


class Optimizer(StrEnum):
    muon = "muon"
    adamw = "adamw"


DEFAULT_LOSS = Loss(DEFAULT.loss)


def run(
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(help="A folder with one folder of pictures for each identity.", show_default=False)
    ],
    output: option.RunFolder,
    loss: Annotated[Loss, typer.Option("--loss", help="Of the distances of a batch.")] = DEFAULT_LOSS,
    model: Annotated[
        str, typer.Option("--model", help="smallnet, which begins anew, or a backbone: any model, or a run.")
    ] = SMALL,
    weights: option.Weights = None,
    val: Annotated[
        str, typer.Option("--val", help="A folder of other identities, or the share of those in DATA to hold out.")
    ] = "0.2",
    false_accept_rate: Annotated[
        float | None,
        typer.Option(
            "--false-accept-rate", min=0, max=1, help="What the threshold is for; default that of equal error."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", min=16, help=f"Side in pixels; default that of the first picture, at most {LARGEST}."),
    ] = None,
    gray: Annotated[
        bool | None, typer.Option("--gray/--color", help="One channel or three; default by the first picture.")
    ] = None,
    orientations: Annotated[
        int,
        typer.Option("--orientations", help="4: turned pictures are identities of their own; 8: mirrored ones too."),
    ] = DEFAULT.orientations,
    flip: Annotated[
        bool, typer.Option("--flip", help="A mirrored picture is of the same identity, as a face is.")
    ] = DEFAULT.flip,
    content: Annotated[
        bool, typer.Option("--content", help="Cut pictures to what stands out from their border, as ink from paper.")
    ] = DEFAULT.content,
    views: Annotated[
        int, typer.Option("--views", min=1, max=5, help="Slightly turned and scaled, that the result averages over.")
    ] = DEFAULT.views,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Batches to learn from.")] = DEFAULT.steps,
    identities: Annotated[
        int | None,
        typer.Option("--identities", min=2, help=f"In a batch; default {DEFAULT.identities}, or 8 of a backbone's."),
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=2, help="Of each identity in a batch.")] = DEFAULT.pictures,
    dimension: Annotated[
        int, typer.Option("--dimension", min=2, help="Numbers that the encoder makes of a picture.")
    ] = DEFAULT.dimension,
    margin: Annotated[float | None, typer.Option("--margin", min=0, help="Default by --loss.")] = DEFAULT.margin,
    softmax_scale: Annotated[
        float, typer.Option("--softmax-scale", min=0.1, help="Of the cosines, in the softmax loss.")
    ] = DEFAULT.softmax_scale,
    optimizer: Annotated[
        Optimizer | None, typer.Option("--optimizer", help="Default muon for smallnet, adamw for a backbone.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", min=0, help="The highest rate; default by optimizer and model.")
    ] = None,
    rotation: Annotated[float, typer.Option("--rotation", min=0, help="Distortion: degrees.")] = DEFAULT.rotation,
    scale: Annotated[float, typer.Option("--scale", min=0, help="Distortion: log of factors.")] = DEFAULT.scale,
    shear: Annotated[float, typer.Option("--shear", min=0, help="Distortion: tangent.")] = DEFAULT.shear,
    shift: Annotated[float, typer.Option("--shift", min=0, help="Distortion: share of the side.")] = DEFAULT.shift,
    warp: Annotated[float, typer.Option("--warp", min=0, help="Distortion: smooth, share of the side.")] = DEFAULT.warp,
    contrast: Annotated[float, typer.Option("--contrast", min=0, help="Distortion: log of factor.")] = DEFAULT.contrast,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    save_every: option.SaveEvery = 60,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Learn from folders of pictures, one for each identity, whether two pictures show the same.

    It holds for identities that were not among them. A folder of folders is a group of identities, as an alphabet is of
    characters. Some identities are held out whole; by their pairs the threshold is calibrated: below it two pictures
    count as the same. `mlcli siamese-verify` applies the run.
    """
    from mlcli.commands import _training
    from mlcli.engine.processes import Processes
    from mlcli.engine.runtime import Runtime, choose_device, seed_everything
    from mlcli.engine.training import Plan
    from mlcli.errors import UsageError
    from mlcli.methods import embedding
    from mlcli.methods.siamese import Siamese
    from mlcli.methods.verification import require_pairs

    processes = Processes(choose_device(device))
    folder, options = _training.open_run("siamese-train", context, output, overwrite=overwrite, resume=resume)
    processes.wait()  # all have looked at the folder before one writes to it
    runtime = replace(Runtime.choose(device, options["precision"]).for_training(), device=processes.device)
    if options["orientations"] not in (1, 4, 8):
        raise UsageError(f"--orientations {options['orientations']}: take 1, 4 or 8")
    if options["weights"] and options["model"] == SMALL:
        raise UsageError(f"--weights: {SMALL} begins anew; name the --model that they are of")

    training, validation = _data(options["data"], options["val"], options["seed"], processes.main)
    seed_everything(options["seed"])
    encoder = embedding.encoder(
        options["model"], options["weights"], options["dimension"], *_size_and_channels(options, training)
    )
    size, channels = encoder.preprocessing.crop, encoder.preprocessing.channels
    prepare = embedding.preparation(encoder, options["content"])
    sets = [
        _training.read_pictures(part, size, channels, workers, processes, quiet, prepare)
        for part in (training, validation)
    ]
    require_pairs(sets[0].labels, training.root)
    require_pairs(sets[1].labels, f"{validation.root} (validation)")
    data = {
        name: _training.summary(part, pictures)
        for name, part, pictures in zip(("training", "validation"), (training, validation), sets, strict=True)
    }
    recipe = complete(options, encoder)
    method = Siamese(encoder, *sets, recipe, options["false_accept_rate"], runtime, processes)
    each = max(1, recipe.steps // 5)
    plan = Plan(
        method.items,
        recipe.identities,
        recipe.steps,  # more epochs than there can be
        recipe.seed,
        save_every=options["save_every"],
        sample_every=recipe.steps,
        evaluate_every=each,
        max_steps=recipe.steps,
    )
    processes.check_batch(plan.batch_size)
    if processes.main:
        _training.start(folder, "siamese-train", options | asdict(recipe) | {"size": size}, data, resume=resume)
    processes.wait()
    figures = _training.fit(folder, method, plan, processes, quiet=quiet)
    if processes.main:
        say(f"{folder.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in figures.items()), quiet)
    processes.close()


def _data(data: str, val: str, seed: int, says: bool) -> tuple["ClassFolder", "ClassFolder"]:
    """(training, validation) pictures by identity, no identity in both."""
    from mlcli.commands._identities import read_identities
    from mlcli.commands._training import held_share
    from mlcli.engine.identities import hold_out
    from mlcli.errors import DataError

    training, contents = read_identities(data, says)
    if not Path(val).is_dir():
        return hold_out(training, held_share(val), seed)
    validation, _ = read_identities(val, says, contents)
    both = sorted(set(training.classes) & set(validation.classes))
    if both and says:
        complain(DataError(f"{val}: {both[0]} is the name of an identity in {data} too; take care that it is another"))
    return training, validation


def _size_and_channels(options: dict, training: "ClassFolder") -> tuple[int, int]:
    """Those of the options or, where they leave it open, of the first picture that can be read."""
    from mlcli.engine import images, models
    from mlcli.engine.decoding import decode

    size = options["size"] or min(LARGEST, models.default_size(models.SMALLNET, training.paths))
    if options["gray"] is not None:
        return size, 1 if options["gray"] else 3
    pictures = (picture for _, picture in decode(training.paths, workers=0) if not isinstance(picture, Exception))
    first = next(pictures, None)
    gray = first is not None and bool((first == images.to_gray(first)).all())
    return size, 1 if gray else 3


def complete(options: dict, encoder: "Model") -> Recipe:
    """The recipe, with what the command line left open decided by the model."""
    recipe = Recipe(
        **{field.name: options[field.name] for field in fields(Recipe) if options.get(field.name) is not None}
    )
    small = encoder.architecture == SMALL
    optimizer = options["optimizer"] or (DEFAULT.optimizer if small else "adamw")
    rate = DEFAULT.lr if optimizer == "muon" else recipes.RATE if small else recipes.RATE_OF_BACKBONE
    return replace(
        recipe,
        optimizer=optimizer,
        lr=rate if options["lr"] is None else options["lr"],
        dimension=len(encoder.classes),
        identities=options["identities"] or (DEFAULT.identities if small else 8),
    )

"""`mlcli siamese-train`"""

import os
from dataclasses import asdict, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import complain, say
from mlcli.methods.metric_learning import configs
from mlcli.methods.metric_learning.configs import Siamese as Config

if TYPE_CHECKING:
    from mlcli.data.folders import ClassFolder
    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

DEFAULT = Config()
SMALL, EMBEDDED = "smallnet", "cifarnet"
LOOKED_AT = 100  # images, of which color shows
LARGEST = {SMALL: 48, EMBEDDED: 64}  # side in pixels by default: what takes minutes
FISHER, MOST_FOLDS = configs.Fisher(), 10
FEWEST = 10  # false accepts that a threshold is set by; of fewer, the rate on others may be several times as high
OF_DESCENT = {field.name for field in fields(Config)} - {field.name for field in fields(FISHER)} - {"loss"}
OF_DESCENT |= {"gray", "precision"}  # what is solved for takes images as its model does, and float32


class Loss(StrEnum):
    softmax = "softmax"
    triplet = "triplet"
    contrastive = "contrastive"
    weighted_l1 = "weighted-l1"
    fisher = "fisher"


class Optimizer(StrEnum):
    muon = "muon"
    adamw = "adamw"


DEFAULT_LOSS = Loss(DEFAULT.loss)
# Options that other losses have no use for
OF_LOSSES = {"margin": (Loss.softmax, Loss.triplet, Loss.contrastive), "softmax_scale": (Loss.softmax,)}


@option.reads_images
def run(
    context: typer.Context,
    data: Annotated[
        Path, typer.Argument(help="A folder with one folder of images for each identity.", show_default=False)
    ],
    output: option.RunFolder,
    loss: Annotated[
        Loss,
        typer.Option("--loss", help="Of the distances; fisher is solved for, on maps of a --model that has learned."),
    ] = DEFAULT_LOSS,
    model: Annotated[
        str | None,
        typer.Option("--model", help="smallnet, which begins anew, or any other; of fisher cifarnet."),
    ] = None,
    weights: option.Weights = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help=f"Of the maps that fisher compares; default {FISHER.layer}.")
    ] = None,
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
        typer.Option(
            "--size",
            min=16,
            help="Side in pixels; default the first image's, at most 48, of fisher 64, of other models from 64 to "
            "what they have learned on.",
        ),
    ] = None,
    gray: Annotated[
        bool | None, typer.Option("--gray/--color", help="One channel or three; default by the first image.")
    ] = None,
    orientations: Annotated[
        int,
        typer.Option("--orientations", help="4: turned images are identities of their own; 8: mirrored ones too."),
    ] = DEFAULT.orientations,
    flip: Annotated[
        bool, typer.Option("--flip", help="A mirrored image is of the same identity, as a face is.")
    ] = DEFAULT.flip,
    content: Annotated[
        bool, typer.Option("--content", help="Cut images to what stands out from their border, as ink from paper.")
    ] = DEFAULT.content,
    views: Annotated[
        int, typer.Option("--views", min=1, max=5, help="Slightly turned and scaled, that the result averages over.")
    ] = DEFAULT.views,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Batches to learn from.")] = DEFAULT.steps,
    identities: Annotated[
        int | None,
        typer.Option("--identities", min=2, help=f"In a batch; default {DEFAULT.identities}, or 8 of a backbone's."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=2, help="Of each identity in a batch.")] = DEFAULT.images,
    dimension: Annotated[
        int, typer.Option("--dimension", min=2, help="Numbers that the encoder makes of an image.")
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
    """Learn from folders of images, one for each identity, whether two images show the same.

    It holds for identities that were not among them. A folder of folders is a group of identities, as an alphabet is of
    characters. Some identities are held out whole; by their pairs the threshold is calibrated: below it two images
    count as the same. `mlcli siamese-verify` applies the run.

    Of some dozens of identities take --loss fisher: a network that has learned of other things is kept, and a metric
    solved for on its maps; each identity is then held out once for the threshold, and the result is of all.
    """
    from mlcli.api import runs
    from mlcli.methods.metric_learning import embedder
    from mlcli.methods.metric_learning.verification import require_pairs
    from mlcli.models import pretrained
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call_of(context))
    solves = options["loss"] == Loss.fisher.value
    options["model"] = options["model"] or (EMBEDDED if solves else SMALL)
    _check(options, context, solves)
    given = None if options["model"] == SMALL else embedder.pretrained_model(options["model"], options["weights"])

    training, validation = _data(options["data"], options["val"], options["seed"], processes.main, in_turn=solves)
    seed_global(options["seed"], "training/initialization")
    if solves:
        own = options["size"] or (_size(training, EMBEDDED) if options["model"] == EMBEDDED else None)
        encoder = embedder.up_to(given, options.get("layer") or FISHER.layer, own)
    else:
        side = options["size"] or (pretrained.default_size(given, training.paths) if given else _size(training, SMALL))
        encoder = embedder.encoder(given, options["dimension"], side, _channels(options["gray"], training))
        runtime = runtime.for_training_of(encoder.network, options["precision"])
    size, channels = encoder.preprocessing.crop, encoder.preprocessing.channels
    prepare = embedder.preparation(encoder, options["content"])
    sets, data = {}, {}
    for name, part in (("training", training), ("validation", validation)):
        if part is not None:
            sets[name] = runs.read_images(part, size, channels, workers, processes, prepare)
            require_pairs(sets[name].labels, part.root if name == "training" else f"{part.root} (validation)")
            data[name] = runs.summary(part, sets[name])
    if solves:  # of the others the network is part of the state
        data["model"] = {"count": 1, "hash": encoder.hash}
    make = _solved if solves else _descended
    config, method, plan = make(options, encoder, sets, runtime, processes)
    processes.check_batch(plan.batch_size, "--loss fisher" if solves else "--identities")
    if processes.main:
        _warn_of_few(options["false_accept_rate"], method.different)
        runs.start(folder, "siamese-train", options | asdict(config) | {"size": size}, data, resume=resume)
    processes.wait()
    figures = runs.fit(folder, method, plan, processes)
    if processes.main:
        say(f"{folder.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in figures.items()), quiet)
    processes.close()


def _check(options: dict, context: typer.Context, solves: bool) -> None:
    """Raise UsageError for options that contradict each other."""
    from mlcli.errors import UsageError

    if options["orientations"] not in (1, 4, 8):
        raise UsageError(f"--orientations {options['orientations']}: take 1, 4 or 8")
    if options["flip"] and options["orientations"] == 8:
        raise UsageError("--flip: makes a mirrored image the same identity, --orientations 8 another one; take one")
    if options["weights"] and options["model"] == SMALL:
        raise UsageError(f"--weights: {SMALL} begins anew; name the --model that they are of")
    if solves and options["model"] == SMALL:
        raise UsageError(f"--loss fisher: {SMALL} begins anew; name a --model that has learned already")
    if options.get("layer") and not solves:
        raise UsageError("--layer: is of --loss fisher; the other losses learn the whole network")
    given = {name for name in context.params if context.get_parameter_source(name).name != "DEFAULT"}
    for name in sorted(given & OF_DESCENT) if solves else ():
        raise UsageError(f"--loss fisher: is solved for, and has no use for --{name.replace('_', '-')}")
    for name in sorted(given & OF_LOSSES.keys()):
        if options["loss"] not in OF_LOSSES[name]:
            raise UsageError(
                f"--{name.replace('_', '-')}: is of --loss {' or '.join(OF_LOSSES[name])}; {options['loss']} has no "
                "use for it"
            )
    if "gray" in given and options["model"] != SMALL and not solves:
        raise UsageError(f"--gray: {options['model']} takes the channels that it has learned on; leave the option out")


def _warn_of_few(asked: float | None, different: int) -> None:
    """Say where the false accepts that are asked for are too few of the pairs of different identities."""
    if asked is not None and asked * different < FEWEST:
        complain(
            f"--false-accept-rate {asked:g}: {asked * different:.3g} of {different:,} pairs of different identities; "
            f"with fewer than {FEWEST} the rate cannot be kept on others. Hold out more identities (--val)"
        )


def _descended(options: dict, encoder: "Model", sets: dict, runtime: "Runtime", processes: "Processes") -> tuple:
    """(config, method, plan) of a network that learns step by step."""
    from mlcli.methods.metric_learning.siamese import Siamese
    from mlcli.training.plan import Plan

    config = complete(options, encoder)
    method = Siamese(
        encoder, sets["training"], sets["validation"], config, options["false_accept_rate"], runtime, processes
    )
    plan = Plan(
        method.items,
        config.identities,
        config.steps,  # more epochs than there can be
        config.seed,
        save_every=options["save_every"],
        sample_every=config.steps,
        evaluate_every=max(1, config.steps // 5),
        max_steps=config.steps,
    )
    return config, method, plan


def _solved(options: dict, encoder: "Model", sets: dict, runtime: "Runtime", processes: "Processes") -> tuple:
    """(config, method, plan) of a metric on maps."""
    from mlcli.api.runs import held_share
    from mlcli.methods.metric_learning.fisher import Fisher
    from mlcli.training.plan import Plan

    chosen = {field.name: options[field.name] for field in fields(FISHER) if options.get(field.name) is not None}
    if "folds" not in chosen:  # of a run that is gone on with they are known
        alone = "validation" in sets
        chosen["folds"] = 1 if alone else min(MOST_FOLDS, max(2, round(1 / held_share(options["val"]))))
    config = replace(FISHER, **chosen)
    training, validation = sets["training"], sets.get("validation")
    method = Fisher(encoder, training, validation, config, options["false_accept_rate"], runtime, processes)
    # The batch is that of all processes, so that a run can be gone on with by another number of them
    items, batch = method.items(config.batch_size), config.batch_size
    return config, method, Plan(items, batch, 1, config.seed, save_every=options["save_every"])


def _data(data: str, val: str, seed: int, says: bool, *, in_turn: bool) -> tuple["ClassFolder", "ClassFolder | None"]:
    """(training, validation) images by identity, no identity in both.

    in_turn: a share is not held out here but, by the method, each identity once; then there is no validation set.
    """
    from mlcli.api.runs import held_share
    from mlcli.commands._identities import read_identities
    from mlcli.data.class_names import normalized
    from mlcli.data.identities import hold_out
    from mlcli.errors import DataError

    training, contents = read_identities(data, says, val=True)
    if not os.path.isdir(val):
        share = held_share(val)
        return (training, None) if in_turn else hold_out(training, share, seed)
    validation, _ = read_identities(val, says, contents, learns=False)
    names = {normalized(name) for name in training.classes}
    both = [name for name in validation.classes if normalized(name) in names]
    if both and says:
        complain(DataError(f"{val}: {both[0]} is the name of an identity in {data} too; take care that it is another"))
    return training, validation


def _size(training: "ClassFolder", model: str) -> int:
    """The side of the first image that can be read, as far as it suits the model."""
    from mlcli.models import sizes

    return min(LARGEST[model], sizes.default_size(model, training.paths))


def _channels(gray: bool | None, training: "ClassFolder") -> int:
    """By the option or, where it leaves it open, by the images, or some of many: 1 where all of them are gray."""
    from mlcli.data.folders import spread
    from mlcli.io import image_io
    from mlcli.io.decoding import decode

    if gray is not None:
        return 1 if gray else 3
    shown = [training.paths[index] for index in spread(LOOKED_AT, len(training.paths))]
    images = (image for _, image in decode(shown) if not isinstance(image, Exception))
    return 1 if all(bool((image == image_io.to_gray(image)).all()) for image in images) else 3


def complete(options: dict, encoder: "Model") -> Config:
    """The config, with what the command line left open decided by the model."""
    config = Config(
        **{field.name: options[field.name] for field in fields(Config) if options.get(field.name) is not None}
    )
    small = encoder.architecture == SMALL
    optimizer = options["optimizer"] or (DEFAULT.optimizer if small else "adamw")
    rate = DEFAULT.lr if optimizer == "muon" else configs.ADAMW_LR if small else configs.PRETRAINED_LR
    return replace(
        config,
        optimizer=optimizer,
        lr=rate if options["lr"] is None else options["lr"],
        dimension=len(encoder.classes),
        identities=options["identities"] or (DEFAULT.identities if small else 8),
    )

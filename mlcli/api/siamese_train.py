"""`mlcli.siamese_train`: a network that tells whether two images show the same identity."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import complain
from mlcli.api.train import Training
from mlcli.errors import DataError, UsageError
from mlcli.io import input_files
from mlcli.methods.metric_learning import configs
from mlcli.methods.metric_learning.configs import FISHER, Fisher, Siamese
from mlcli.options import DATA, METHOD, NETWORK, argument, of, option, same
from mlcli.options import options as options_of

if TYPE_CHECKING:
    from mlcli.data.folders import ClassFolder
    from mlcli.data.image_dataset import ImageDataset
    from mlcli.methods.metric_learning import fisher, siamese
    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes
    from mlcli.training.plan import Plan

SMALLNET, CIFARNET = "smallnet", "cifarnet"
LARGEST = {SMALLNET: 48, CIFARNET: 64}  # default of the side in pixels, at most, so that training takes minutes
MOST_FOLDS = 10
LOOKED_AT = 100  # images that show whether there is color
FEWEST = 10  # false accepts that set a threshold; with fewer, the rate on other identities may be several times as high


@dataclass(frozen=True, kw_only=True)
class SiameseTrainConfig(common.Trains):
    data: Path = argument("Folder or archive with one folder of images per identity.", path="input", metavar="DATA")
    loss: str = same(Siamese, "loss")
    model: str | None = option(
        None,
        "Network: smallnet, trained from scratch, or the name of a trained model or the folder of a run.",
        completes="architecture",
        shown_default=f"{SMALLNET}; {CIFARNET} for --loss fisher",
        cli_type=str,
        panel=NETWORK,
    )
    weights: Path | None = same(common.UsesModel, "weights")
    layer: str | None = same(Fisher, "layer", default=None, shown_default=Fisher.layer)
    val: str | float = option(
        "0.2",
        "Folder of other identities to validate on, or the fraction of the identities in DATA to hold out.",
        cli_type=str,
        panel=DATA,
    )
    false_accept_rate: float | None = option(
        None,
        "False accept rate that the threshold is set to.",
        minimum=0,
        maximum=1,
        shown_default="the equal error rate",
        panel=METHOD,
    )
    size: int | None = option(
        None,
        "Side of the images in pixels.",
        minimum=16,
        shown_default=f"that of the first image, but at most {LARGEST[SMALLNET]} for {SMALLNET} and "
        f"{LARGEST[CIFARNET]} for {CIFARNET} with --loss fisher; for other models at least 64, and at most the size "
        "that they learned on",
        panel=DATA,
    )
    gray: bool | None = option(
        None,
        "Use one gray channel, or three color channels.",
        "--gray/--color",
        shown_default="gray if the images have no color",
        panel=DATA,
        applies=configs.is_trained,
    )
    precision: str = same(common.Computes, "precision", applies=configs.is_trained)
    orientations: int = same(Siamese, "orientations")
    flip: bool = same(Siamese, "flip")
    content: bool = same(Siamese, "content")
    views: int = same(Siamese, "views")
    steps: int = same(Siamese, "steps")
    identities: int | None = same(
        Siamese, "identities", default=None, shown_default=f"{Siamese.identities}; 8 for a trained --model"
    )
    images_per_identity: int = same(Siamese, "images_per_identity")
    dimension: int = same(Siamese, "dimension")
    margin: float | None = same(Siamese, "margin")
    softmax_scale: float = same(Siamese, "softmax_scale")
    optimizer: str | None = same(
        Siamese, "optimizer", default=None, shown_default=f"muon for {SMALLNET}, adamw for a trained --model"
    )
    lr: float | None = same(
        Siamese,
        "lr",
        default=None,
        shown_default=f"{Siamese.lr} for muon; {configs.ADAMW_LR} for adamw, {configs.PRETRAINED_LR} with a trained "
        "--model",
    )
    rotation: float = same(Siamese, "rotation")
    scale: float = same(Siamese, "scale")
    shear: float = same(Siamese, "shear")
    shift: float = same(Siamese, "shift")
    warp: float = same(Siamese, "warp")
    contrast: float = same(Siamese, "contrast")


# Options without effect on a metric that is solved for: it takes the channels of its model, and computes in float32
OF_TRAINING = {
    each.name for each in options_of(SiameseTrainConfig) if (used := of(each).applies) and not used({"loss": FISHER})
}


@function(SiameseTrainConfig)
def siamese_train(call: Call[SiameseTrainConfig]) -> Training:
    """Learn from folders of images, one for each identity, whether two images show the same.

    One encoder maps both images to vectors, which are compared by their distance (Bromley et al. 1993; Koch et al.
    2015). It holds for identities that it was not trained on. Some identities are held out whole; by their pairs the
    threshold is calibrated, below which two images count as the same. A folder of folders is a group of identities, as
    an alphabet is of characters. With some dozens of identities take `loss="fisher"`: a trained network is kept, and a
    metric is solved for on its feature maps; each identity is then held out once for the threshold. With `resume` an
    interrupted run continues to the same numbers as one never interrupted, and a finished one is left as it is.

        >>> import mlcli
        >>> result = mlcli.siamese_train("faces", flip=True, output="runs/faces")  # doctest: +SKIP
        >>> mlcli.siamese_verify(result.folder, ["one.jpg", "other.jpg"]).pairs[0].verdict.same  # doctest: +SKIP
        True

    `metrics` has the last loss, and figures of the validation pairs, such as `val_eer` (equal error rate) and `val_auc`
    (area under the ROC curve). Images that cannot be read are left out and named. Raises UsageError for options that
    do not go together, and where the output folder holds something else; DataError for fewer than two identities, or
    too few to hold some out; TrainingError where the loss becomes infinite.
    """
    from mlcli.api import run_reports, runs
    from mlcli.api.layer_names import addresses
    from mlcli.methods.metric_learning import embedder
    from mlcli.methods.metric_learning.verification import require_pairs
    from mlcli.models import pretrained
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call)
    if (metrics := runs.finished(call, folder, options, processes)) is not None:
        return Training(folder.folder, metrics)
    solves = options["loss"] == FISHER
    options["model"] = options["model"] or (CIFARNET if solves else SMALLNET)
    _check(options, call.given, solves)
    given = None if options["model"] == SMALLNET else embedder.pretrained_model(options["model"], options["weights"])

    training, validation = _data(options["data"], options["val"], options["seed"], cross_validates=solves)
    seed_global(options["seed"], "training/initialization")
    data: dict[str, dict[str, Any]] = {}
    if solves:  # otherwise the network is part of the state
        assert given is not None  # _check
        own = options["size"] or (_size(training, CIFARNET) if options["model"] == CIFARNET else None)
        layer = options.get("layer") or Fisher.layer
        encoder = embedder.up_to(given, layer, own)
        data["model"] = {"count": 1, "hash": encoder.hash, "addresses": addresses(encoder, [layer])}
    else:
        of_model = pretrained.default_size(given, training.paths) if given else _size(training, SMALLNET)
        side = options["size"] or of_model
        encoder = embedder.encoder(given, options["dimension"], side, _channels(options["gray"], training))
        runtime = runtime.for_training_of(encoder.network, options["precision"])
    size, channels = encoder.preprocessing.crop, encoder.preprocessing.channels
    prepare = embedder.preparation(encoder, options["content"])
    sets = {}
    for name, part in (("training", training), ("validation", validation)):
        if part is not None:
            sets[name] = runs.read_images(part, size, channels, call.config, prepare)
            where = part.root if name == "training" else f"{part.root} (validation)"
            require_pairs(sets[name].class_labels, where)
            data[name] = runs.summary(part, sets[name])
    make = _solved if solves else _trained
    config, method, plan = make(options, encoder, sets, runtime, processes)
    processes.check_batch(plan.batch_size, "--loss fisher" if solves else "--identities")
    _warn_of_few(options["false_accept_rate"], method.different)
    if processes.main:
        effective = options | asdict(config) | {"size": size}
        runs.start(folder, "siamese-train", effective, data, resume=call.config.resume)
    processes.wait()
    metrics = runs.fit(folder, method, plan, processes)
    if processes.main:
        folder.save_results({"verification": method.measured()})
        run_reports.write(folder)
    runs.finish(folder, options, processes, metrics)
    return Training(folder.folder, metrics)


def _check(options: Mapping[str, Any], given: frozenset[str], solves: bool) -> None:
    """Raise UsageError for options that contradict each other. given: those that the caller has named."""
    loss, model = options["loss"], options["model"]
    if options["orientations"] not in (1, 4, 8):
        raise UsageError(f"--orientations {options['orientations']}: take 1, 4 or 8")
    if options["flip"] and options["orientations"] == 8:
        raise UsageError("--flip: makes a flipped image the same identity, --orientations 8 another one; take one")
    if options["weights"] and model == SMALLNET:
        raise UsageError(f"--weights: {SMALLNET} is trained from scratch; name the --model that they are of")
    if solves and model == SMALLNET:
        raise UsageError(f"--loss fisher: {SMALLNET} is trained from scratch; name a --model that is trained already")
    if options.get("layer") and not solves:
        raise UsageError("--layer: is of --loss fisher; the other losses train the whole network")
    for name in sorted(given & OF_TRAINING) if solves else ():
        raise UsageError(f"--loss fisher: is solved for, and has no use for {_flag(name)}")
    for name in sorted(given & configs.OF_LOSSES.keys()):
        if loss not in configs.OF_LOSSES[name]:
            losses = " or ".join(configs.OF_LOSSES[name])
            raise UsageError(f"{_flag(name)}: is of --loss {losses}; {loss} has no use for it")
    if "gray" in given and model != SMALLNET and not solves:
        raise UsageError(f"--gray: {model} takes the channels that it has learned on; leave the option out")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _warn_of_few(asked: float | None, different: int) -> None:
    """Say where the false accepts that are asked for are too few of the pairs of different identities."""
    if asked is not None and asked * different < FEWEST:
        complain(
            f"--false-accept-rate {asked:g} needs {math.ceil(FEWEST / asked):,} pairs of images of different held-out "
            f"identities to be kept on others, and there are {different:,}: give more images or identities, or a "
            "larger --val"
        )


def _trained(
    options: Mapping[str, Any],
    encoder: "Model",
    sets: Mapping[str, "ImageDataset"],
    runtime: "Runtime",
    processes: "Processes",
) -> "tuple[Siamese, siamese.Siamese, Plan]":
    """(hyperparameters, method, plan) of a network that is trained step by step."""
    from mlcli.methods.metric_learning import siamese
    from mlcli.training.plan import Plan

    config = hyperparameters(options, encoder)
    method = siamese.Siamese(
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


def _solved(
    options: Mapping[str, Any],
    encoder: "Model",
    sets: Mapping[str, "ImageDataset"],
    runtime: "Runtime",
    processes: "Processes",
) -> "tuple[Fisher, fisher.Fisher, Plan]":
    """(hyperparameters, method, plan) of a metric on feature maps."""
    from mlcli.api.runs import held_fraction
    from mlcli.methods.metric_learning import fisher
    from mlcli.training.plan import Plan

    chosen = {field.name: options[field.name] for field in fields(Fisher) if options.get(field.name) is not None}
    if "folds" not in chosen:  # they are known of a run that is resumed
        several = min(MOST_FOLDS, max(2, round(1 / held_fraction(options["val"])))) if "validation" not in sets else 1
        chosen["folds"] = several
    config = replace(Fisher(), **chosen)
    training, validation = sets["training"], sets.get("validation")
    method = fisher.Fisher(encoder, training, validation, config, options["false_accept_rate"], runtime, processes)
    # The batch is that of all processes, so that another number of them can resume a run
    items, batch = method.items(config.batch_size), config.batch_size
    return config, method, Plan(items, batch, 1, config.seed, save_every=options["save_every"])


def _data(data: str, val: str, seed: int, *, cross_validates: bool) -> tuple["ClassFolder", "ClassFolder | None"]:
    """(training, validation) images by identity, with no identity in both.

    cross_validates: a fraction is not held out here, since the method holds out each identity once; then there is no
    validation set.
    """
    from mlcli.api.identity_folders import read_identities
    from mlcli.api.runs import held_fraction
    from mlcli.data.class_names import normalized
    from mlcli.data.identities import hold_out

    training, contents = read_identities(data, val=True)
    if not input_files.is_folder(val):
        fraction = held_fraction(val)
        return (training, None) if cross_validates else hold_out(training, fraction, seed)
    validation, _ = read_identities(val, contents, learns=False)
    names = {normalized(name) for name in training.classes}
    both = [name for name in validation.classes if normalized(name) in names]
    if both:
        complain(DataError(f"{val}: {both[0]} is the name of an identity in {data} too; take care that it is another"))
    return training, validation


def _size(training: "ClassFolder", model: str) -> int:
    """The side of the first image that can be read, as far as it suits the model."""
    from mlcli.models import sizes

    return min(LARGEST[model], sizes.default_size(model, training.paths))


def _channels(gray: bool | None, training: "ClassFolder") -> int:
    """1 or 3, by the option; where it is left open, 1 if all images are gray, or a sample of many."""
    import torch

    from mlcli.data.folders import spread
    from mlcli.imaging import image_io
    from mlcli.imaging.decoding import decode

    if gray is not None:
        return 1 if gray else 3
    shown = [training.paths[index] for index in spread(LOOKED_AT, len(training.paths))]
    images = (image for _, image in decode(shown) if isinstance(image, torch.Tensor))
    return 1 if all(torch.equal(image, image_io.to_gray(image).expand_as(image)) for image in images) else 3


def hyperparameters(options: Mapping[str, Any], encoder: "Model") -> Siamese:
    """The hyperparameters of these options; what they leave open (None) goes by the model."""
    given = {field.name: options[field.name] for field in fields(Siamese) if options.get(field.name) is not None}
    small = encoder.architecture == SMALLNET
    optimizer = options["optimizer"] or (Siamese.optimizer if small else "adamw")
    lr = Siamese.lr if optimizer == "muon" else configs.ADAMW_LR if small else configs.PRETRAINED_LR
    return replace(
        Siamese(**given),
        optimizer=optimizer,
        lr=lr if options["lr"] is None else options["lr"],
        dimension=len(encoder.classes),
        identities=options["identities"] or (Siamese.identities if small else 8),
    )

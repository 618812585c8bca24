"""`mlcli train`"""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from mlcli.commands import _learning as learning
from mlcli.commands import _options as option
from mlcli.commands._report import say
from mlcli.methods import configs

DEFAULT = configs.Supervised()


class Schedule(StrEnum):
    one_cycle = "one-cycle"
    cosine = "cosine"
    constant = "constant"


class Optimizer(StrEnum):
    muon = "muon"
    sgd = "sgd"


DEFAULT_SCHEDULE = Schedule(DEFAULT.schedule)


@option.reads_images
def run(
    context: typer.Context,
    data: learning.Data,
    output: option.RunFolder,
    model: learning.Model = "cifarnet",
    val: Annotated[
        str | None,
        typer.Option("--val", help="A labeled folder, or the fraction of DATA to hold out (0.1)."),
    ] = None,
    size: learning.Size = None,
    gray: learning.Gray = False,
    epochs: learning.Epochs = DEFAULT.epochs,
    steps: learning.Steps = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=2, help=f"Default {DEFAULT.batch_size}, or a twentieth of DATA.")
    ] = None,
    optimizer: Annotated[
        Optimizer | None, typer.Option("--optimizer", help="Default muon for cifarnet, sgd for other architectures.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", min=0, help="The highest rate; default by optimizer and batch size.")
    ] = None,
    schedule: Annotated[Schedule, typer.Option("--schedule", help="Of the rate.")] = DEFAULT_SCHEDULE,
    momentum: Annotated[float, typer.Option("--momentum", min=0, max=1)] = DEFAULT.momentum,
    weight_decay: learning.WeightDecay = DEFAULT.weight_decay,
    label_smoothing: Annotated[float, typer.Option("--label-smoothing", min=0, max=1)] = DEFAULT.label_smoothing,
    flip: learning.Flip = DEFAULT.flip,
    translate: learning.Translate = DEFAULT.translate,
    cutout: Annotated[int, typer.Option("--cutout", min=0, help="Side of a hidden square in pixels.")] = DEFAULT.cutout,
    cutmix: Annotated[
        float, typer.Option("--cutmix", min=0, max=1, help="Share of images with a piece of another pasted in.")
    ] = DEFAULT.cutmix,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    save_every: option.SaveEvery = 60,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Train a classifier from scratch on class folders.

    `mlcli finetune` begins from the weights of a model instead: --freeze none trains all its layers further.

    Images are mirrored, shifted, cut out and mixed at random, which teaches the invariances of the task. The run
    folder holds the model, the options, the metrics and a report; `--resume` goes on after an interruption to the
    same numbers, and does nothing when the run is done.
    """
    from mlcli.commands import _training
    from mlcli.commands._images import class_folder
    from mlcli.methods.evaluation.classification import accuracy
    from mlcli.methods.learning.supervised import Supervised
    from mlcli.models import registry
    from mlcli.runtime.random_streams import seed_global
    from mlcli.training.plan import Plan

    processes, runtime, folder, options = _training.begin("train", context)

    training = class_folder(options["data"], says=processes.main, val=True)
    training.require_classes(2)
    training, validation = _training.with_validation(training, options["val"], options["seed"], says=processes.main)
    size = options["size"] or registry.default_size(options["model"], training.paths)
    channels = 1 if options["gray"] else 3

    def read(folder):
        return _training.read_images(folder, size, channels, workers, processes, quiet)

    training, validation, images = _training.read_training(training, validation, read, processes)
    seed_global(options["seed"], "training/initialization")
    model = registry.create(options["model"], training.classes, size, channels)
    runtime = runtime.for_training_of(model.network, options["precision"])
    data = {"training": _training.summary(training, images)}
    if validation:
        validation_images = read(validation)
        data["validation"] = _training.summary(validation, validation_images)
    config = configs.supervised(options, len(images), model.architecture, model.has_batch_norm)
    plan = Plan(
        len(images),
        config.batch_size,
        config.epochs,
        config.seed,
        max_steps=options["steps"],
        save_every=options["save_every"],
    )
    processes.check_batch(plan.batch_size)

    def evaluate(model: registry.Model) -> dict[str, float]:
        return {"val_accuracy": accuracy(model, validation_images, runtime)} if validation else {}

    method = Supervised(model, images, config, plan.steps, runtime, processes, evaluate)
    if processes.main:
        _training.start(folder, "train", options | asdict(config), data, resume=resume)
    processes.wait()
    figures = _training.fit(folder, method, plan, processes, quiet=quiet)
    if processes.main:
        say(
            f"{folder.folder}: done" + "".join(f", {name} {value:.4f}" for name, value in figures.items()),
            quiet,
        )
    processes.close()

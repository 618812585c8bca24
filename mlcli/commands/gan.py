"""`mlcli gan`"""

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.api import inputs
from mlcli.commands import _adversarial as adversarial
from mlcli.commands import _learning as learning
from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import say
from mlcli.methods.generation.configs import Gan as Config

if TYPE_CHECKING:
    from mlcli.data.folders import ClassFolder

DEFAULT = Config()
DEFAULT_LOSS, DEFAULT_SCHEDULE = adversarial.Loss(DEFAULT.loss), adversarial.Schedule(DEFAULT.schedule)


@option.reads_images
def run(
    context: typer.Context,
    images: option.Images,
    output: option.RunFolder,
    conditional: Annotated[
        bool, typer.Option("--conditional", help="IMAGES is a folder of class folders; learn each class by its name.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, max=256, help="Side in pixels; default that of the first image, at most 64."),
    ] = None,
    gray: learning.Gray = False,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Updates of the generator.")] = DEFAULT.steps,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=2, help="Real images in an update.")
    ] = DEFAULT.batch_size,
    loss: adversarial.LossOption = DEFAULT_LOSS,
    spectral: Annotated[
        bool | None,
        typer.Option(
            "--spectral-norm/--no-spectral-norm", help="Of the discriminator; default on, but for wasserstein."
        ),
    ] = DEFAULT.spectral,
    gradient_penalty: adversarial.Penalty = DEFAULT.gradient_penalty,
    discriminator_steps: Annotated[
        int, typer.Option("--discriminator-steps", min=1, help="Updates of the discriminator to one of the generator.")
    ] = DEFAULT.discriminator_steps,
    latent: Annotated[int, typer.Option("--latent", min=1, help="Numbers of noise for an image.")] = DEFAULT.latent,
    filters: Annotated[
        int, typer.Option("--filters", min=1, help="Channels of the largest maps of both networks.")
    ] = DEFAULT.filters,
    lr: Annotated[float, typer.Option("--lr", min=0, help="Rate of the generator.")] = DEFAULT.lr,
    lr_discriminator: Annotated[
        float, typer.Option("--lr-discriminator", min=0, help="Rate of the discriminator.")
    ] = DEFAULT.lr_discriminator,
    schedule: adversarial.ScheduleOption = DEFAULT_SCHEDULE,
    beta1: Annotated[float, typer.Option("--beta1", min=0, max=0.999, help="Momentum of Adam.")] = DEFAULT.beta1,
    beta2: Annotated[float, typer.Option("--beta2", min=0, max=0.99999, help="Of the squares.")] = DEFAULT.beta2,
    ema: Annotated[
        float, typer.Option("--ema", min=0, max=1, help="Decay of the generator's moving average, the result.")
    ] = DEFAULT.ema,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror images; not for digits and letters.")] = DEFAULT.flip,
    model: Annotated[
        str, typer.Option("--model", help="The classifier in whose features distances are measured (see --compared).")
    ] = "cifarnet",
    weights: option.Weights = None,
    compared: Annotated[
        int, typer.Option("--compared", min=0, help="Images for a distance to the data; 0 measures none.")
    ] = DEFAULT.compared,
    evaluate_every: Annotated[
        int, typer.Option("--evaluate-every", min=1, help="Steps between grids of samples, and distances.")
    ] = 1000,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    save_every: option.SaveEvery = 60,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Train a generative adversarial network on images.

    A generator learns to make images of noise that a discriminator cannot tell from the given ones. With
    --conditional it learns the classes of a folder of class folders, and makes images of the class asked for. The
    report shows the images over time, all of one fixed noise, and their Frechet and kernel distances to the data,
    which are measured in fp32 in the last hidden layer of a classifier: by default cifarnet, made for small images and
    five times as fast as efficientnet_lite0. `mlcli sample` draws images from the run.
    """
    from mlcli.api import runs
    from mlcli.methods.generation.fid_kid import Features
    from mlcli.methods.generation.gan import Gan
    from mlcli.models import registry
    from mlcli.runtime.random_streams import seed_global
    from mlcli.training.plan import Plan

    processes, runtime, folder, options = runs.begin(call_of(context))

    training = _data(options["images"], options["conditional"], processes.main)

    def read(folder):
        return runs.read_images(folder, size, 1 if options["gray"] else 3, workers, processes)

    size = options["size"] or registry.default_size(registry.EMBEDDED, training.paths)
    config = _config(options)
    if options["conditional"]:
        training, _, dataset = runs.read_training(training, None, read, processes)
    else:
        dataset = read(training)
    data = {"training": runs.summary(training, dataset)}
    features, count = None, min(config.compared, len(dataset))
    if count:
        exact = replace(runtime, precision="fp32")  # bf16 changes the distances
        features = Features(registry.load(options["model"], options["weights"]).to(exact), exact)
        data["distances"] = {
            "measured_in": f"{options['model']}, {features.layer}",
            "count": count,
            "hash": features.model.hash,
        }
    plan = Plan(
        len(dataset),
        config.batch_size * config.discriminator_steps,
        config.steps,  # more epochs than there can be
        config.seed,
        save_every=options["save_every"],
        sample_every=options["evaluate_every"],
        evaluate_every=options["evaluate_every"],
        max_steps=config.steps,
    )
    _check_batch(plan, config, processes.count)
    processes.check_batch(config.batch_size)
    seed_global(config.seed, "training/initialization")
    classes = training.classes if options["conditional"] else ()
    method = Gan(dataset, classes, config, runtime, processes, features)
    if processes.main:
        runs.start(folder, "gan", options | asdict(config) | {"size": size}, data, resume=resume)
    processes.wait()
    figures = runs.fit(folder, method, plan, processes)
    if processes.main:
        distances = (f", {name} {figures[name]:.4g}" for name in ("frechet", "kernel") if name in figures)
        say(f"{folder.folder}: done" + "".join(distances), quiet)
    processes.close()


def _data(images: list[str], conditional: bool, says: bool) -> "ClassFolder":
    """The images that the arguments name, with classes if they are asked for."""
    from mlcli.data.folders import ClassFolder
    from mlcli.errors import UsageError

    if conditional:
        if len(images) != 1:
            raise UsageError(f"--conditional: give one folder of class folders, not {len(images)} names")
        training = inputs.class_folder(images[0])
        training.require_classes(2)
        return training
    return ClassFolder.of_one(inputs.named(images)[0])


def _config(options: dict) -> Config:
    """The config, with what the command line left open decided by the loss."""
    config = Config(**{field.name: options[field.name] for field in fields(Config)})
    return config if config.spectral is not None else replace(config, spectral=config.loss != "wasserstein")


def _check_batch(plan, config: Config, processes: int) -> None:
    """Raise DataError where the images do not fill the batches of one step."""
    from mlcli.errors import DataError

    needed = config.batch_size * config.discriminator_steps
    if plan.batch_size < needed:
        raise DataError(
            f"{plan.items} images do not fill a step of {needed}; take a smaller --batch-size or more images"
        )

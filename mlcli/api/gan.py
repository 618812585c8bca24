"""`mlcli.gan`: a generative adversarial network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, inputs
from mlcli.api.call import Call, function
from mlcli.api.train import Training
from mlcli.counting import counted
from mlcli.errors import DataError, UsageError
from mlcli.methods.generation.configs import Gan
from mlcli.options import DATA, METHOD, OUTPUT, option, same

if TYPE_CHECKING:
    from mlcli.data.folders import ClassFolder
    from mlcli.data.image_dataset import ImageDataset
    from mlcli.methods.generation.fid_kid import Features
    from mlcli.runtime.device import Runtime
    from mlcli.training.plan import Plan


@dataclass(frozen=True, kw_only=True)
class GanConfig(common.Trains):
    images: common.Paths = common.images()
    conditional: bool = option(
        False, "Learn the classes of IMAGES, which must then be a folder of class folders.", panel=DATA
    )
    size: int | None = option(
        None,
        "Side of the training images in pixels.",
        minimum=8,
        maximum=256,
        shown_default="that of the first image, at most 64",
        panel=DATA,
    )
    gray: bool = common.gray()
    steps: int = same(Gan, "steps")
    batch_size: int = same(Gan, "batch_size")
    loss: str = same(Gan, "loss")
    spectral_norm: bool | None = same(Gan, "spectral_norm")
    gradient_penalty: float = same(Gan, "gradient_penalty")
    discriminator_steps: int = same(Gan, "discriminator_steps")
    latent: int = same(Gan, "latent")
    filters: int = same(Gan, "filters")
    lr: float = same(Gan, "lr")
    lr_discriminator: float = same(Gan, "lr_discriminator")
    schedule: str = same(Gan, "schedule")
    beta1: float = same(Gan, "beta1")
    beta2: float = same(Gan, "beta2")
    ema: float = same(Gan, "ema")
    flip: bool = same(Gan, "flip")
    model: str = option(
        "cifarnet",
        "Classifier in whose features the distances to the data are measured (see --compared).",
        completes="model",
        panel=METHOD,
    )
    weights: Path | None = same(common.UsesModel, "weights", panel=METHOD)
    compared: int = same(Gan, "compared")
    evaluate_every: int = option(
        1000, "Number of steps between grids of samples, and between distances.", minimum=1, panel=OUTPUT
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", inputs.file_names(self.images))
        super().__post_init__()


@function(GanConfig)
def gan(call: Call[GanConfig]) -> Training:
    """Train a generative adversarial network on images (Goodfellow et al. 2014).

    A generator learns to make images of noise that a discriminator cannot tell from the given ones. With `conditional`
    it learns the classes of a folder of class folders. The run folder holds the generator, for `mlcli.sample`, with
    grids of samples and a report. With `resume` an interrupted run continues to the same numbers as one never
    interrupted, and a finished one is left as it is.

        >>> import mlcli
        >>> result = mlcli.gan("mnist/train", conditional=True, gray=True, output="runs/digits")  # doctest: +SKIP
        >>> mlcli.sample(result.folder, classes="3").image  # doctest: +SKIP

    `metrics` has the last value of each loss, and the distances of `compared` generated images to the data, in the
    features of the last hidden layer of `model`, measured in fp32: `frechet` (FID, Heusel et al. 2017) and `kernel`
    (KID, Binkowski et al. 2018). Images that cannot be read are left out and named. Raises UsageError for options that
    do not go together, DataError where the images do not fill a batch.
    """
    from mlcli.api import runs
    from mlcli.methods.generation import gan as method
    from mlcli.models import sizes
    from mlcli.models.sources.builtin import EMBEDDED
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, run, options = runs.begin(call)
    if (metrics := runs.finished(call, run, options, processes)) is not None:
        return Training(run.folder, metrics)
    training = _training_images(options["images"], options["conditional"])
    size = options["size"] or sizes.default_size(EMBEDDED, training.paths)
    channels = 1 if options["gray"] else 3

    def read(folder: "ClassFolder") -> "ImageDataset":
        return runs.read_images(folder, size, channels, call.config)

    config = _hyperparameters(options)
    if options["conditional"]:
        training, _, images = runs.read_training(training, None, read)
    else:
        images = read(training)
    data = {"training": runs.summary(training, images)}
    features = None
    if count := min(config.compared, len(images)):
        features = _features(options, runtime)
        measured_in = f"{options['model']}, {features.layer}"
        data["distances"] = {"measured_in": measured_in, "count": count, "hash": features.model.hash}
    plan = _plan(config, len(images), options)
    processes.check_batch(config.batch_size)
    seed_global(config.seed, "training/initialization")
    classes = training.classes if options["conditional"] else ()
    trained = method.Gan(images, classes, config, runtime, processes, features)
    if processes.main:
        runs.start(run, "gan", options | asdict(config) | {"size": size}, data, resume=call.config.resume)
    processes.wait()
    metrics = runs.fit(run, trained, plan, processes)
    runs.finish(run, options, processes, metrics)
    return Training(run.folder, metrics)


def _training_images(images: Sequence[str], conditional: bool) -> "ClassFolder":
    """The images that the arguments name, with their classes if they are asked for."""
    from mlcli.data.folders import ClassFolder

    if conditional:
        if len(images) != 1:
            raise UsageError(f"--conditional: give one folder of class folders, not {counted(len(images), 'name')}")
        training = inputs.class_folder(images[0])
        training.require_classes(2)
        return training
    return ClassFolder.of_one(inputs.files_named(images))


def _hyperparameters(options: Mapping[str, Any]) -> Gan:
    """The hyperparameters of these options; the loss decides on the spectral norm where they leave it open."""
    config = Gan(**{field.name: options[field.name] for field in fields(Gan)})
    return config if config.spectral_norm is not None else replace(config, spectral_norm=config.loss != "wasserstein")


def _features(options: Mapping[str, Any], runtime: "Runtime") -> "Features":
    """The features in which distances to the data are measured."""
    from mlcli.methods.generation.fid_kid import Features
    from mlcli.models import registry

    exact = replace(runtime, precision="fp32")  # bf16 changes the distances
    return Features(registry.load(options["model"], options["weights"]).to(exact), exact)


def _plan(config: Gan, images: int, options: Mapping[str, Any]) -> "Plan":
    """How the run proceeds. Raises DataError where the images do not fill the batches of one step."""
    from mlcli.training.plan import Plan

    needed = config.batch_size * config.discriminator_steps
    plan = Plan(
        images,
        needed,
        config.steps,  # more epochs than there can be
        config.seed,
        save_every=options["save_every"],
        sample_every=options["evaluate_every"],
        evaluate_every=options["evaluate_every"],
        max_steps=config.steps,
    )
    if plan.batch_size < needed:
        raise DataError(
            f"{counted(images, 'image')} cannot fill a step of {needed}; take a smaller --batch-size or more images"
        )
    return plan

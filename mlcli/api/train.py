"""`mlcli.train`: a classifier from scratch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.methods.learning import configs
from mlcli.methods.learning.configs import Supervised
from mlcli.options import same

if TYPE_CHECKING:
    from mlcli.data.image_dataset import ImageDataset
    from mlcli.runtime.device import Runtime
    from mlcli.training.run_folder import Run


@dataclass(frozen=True, kw_only=True)
class TrainConfig(common.Trains):
    data: Path = common.class_folders()
    val: str | float | None = common.val()
    size: int | None = common.size()
    gray: bool = common.gray()
    model: str = common.architecture()
    epochs: int = same(Supervised, "epochs")
    steps: int | None = common.steps_limit()
    batch_size: int | None = same(
        Supervised, "batch_size", default=None, shown_default="a twentieth of DATA, at most 1000 for cifarnet, else 64"
    )
    optimizer: str | None = same(
        Supervised, "optimizer", default=None, shown_default="muon for cifarnet, sgd for other architectures"
    )
    lr: float | None = same(
        Supervised, "lr", default=None, shown_default="0.08 for muon, 0.1 for sgd, scaled with the batch size"
    )
    schedule: str = same(Supervised, "schedule")
    momentum: float = same(Supervised, "momentum")
    weight_decay: float = same(Supervised, "weight_decay")
    label_smoothing: float = same(Supervised, "label_smoothing")
    flip: bool = same(Supervised, "flip")
    shift: int = same(Supervised, "shift")
    cutout: int = same(Supervised, "cutout")
    cutmix: float = same(Supervised, "cutmix")


@dataclass(frozen=True)
class Training:
    """A finished run: its folder, which every function takes as `model`, and the last value of each metric."""

    folder: Path
    metrics: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "metrics": dict(self.metrics)}


@function(TrainConfig)
def train(call: Call[TrainConfig]) -> Training:
    """Train a classifier from scratch on class folders.

    Images are flipped and shifted at random, and parts of them hidden, which teaches the invariances of the task. The
    run folder holds the model, the options, the metrics and a report. With `resume` an interrupted run continues to the
    same numbers as one never interrupted, and a finished one is left as it is.

        >>> import mlcli
        >>> result = mlcli.train("cifar10/train", output="runs/cifar", val=0.1)  # doctest: +SKIP
        >>> result.metrics["val_accuracy"]  # doctest: +SKIP
        0.91

    Raises UsageError where the output folder holds something else, DataError for folders without classes, TrainingError
    where the loss becomes infinite.
    """
    from mlcli.api import run_reports, runs
    from mlcli.api.inputs import class_folder
    from mlcli.data.folders import ClassFolder
    from mlcli.data.image_dataset import ImageDataset
    from mlcli.methods.evaluation.classification import accuracy
    from mlcli.methods.learning import supervised
    from mlcli.models import catalog, registry, sizes
    from mlcli.models.model import Model
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call)
    if (metrics := runs.finished(call, folder, options, processes)) is not None:
        return Training(folder.folder, metrics)
    training = class_folder(options["data"], val=True)
    training.require_classes(2)
    training, validation = runs.with_validation(training, options["val"], options["seed"])
    size = options["size"] or sizes.default_size(options["model"], training.paths)
    channels = 1 if options["gray"] else 3

    def read(folder: ClassFolder) -> ImageDataset:
        return runs.read_images(folder, size, channels, call.config)

    training, validation, images = runs.read_training(training, validation, read)
    seed_global(options["seed"], "training/initialization")
    model = registry.create(options["model"], training.classes, size, channels)
    runtime = runtime.for_training_of(model.network, options["precision"])
    data = {"training": runs.summary(training, images)}
    if validation:
        validation_images = read(validation)
        data["validation"] = runs.summary(validation, validation_images)
    defaults = catalog.training_defaults(model.architecture)
    config = configs.supervised(options, len(images), defaults, model.has_batch_norm, Supervised)
    plan = runs.plan(len(images), config, options)
    processes.check_batch(plan.batch_size)

    def evaluate(model: Model) -> dict[str, float]:
        return {"val_accuracy": accuracy(model, validation_images, runtime)} if validation else {}

    method = supervised.Supervised(model, images, config, plan.steps, runtime, processes, evaluate)
    if processes.main:
        runs.start(folder, "train", options | asdict(config), data, resume=call.config.resume)
    processes.wait()
    metrics = runs.fit(folder, method, plan, processes)
    if processes.main and validation:
        _evaluate(folder, validation_images, options, runtime)
        run_reports.write(folder)
    runs.finish(folder, options, processes, metrics)
    return Training(folder.folder, metrics)


def _evaluate(folder: "Run", images: "ImageDataset", options: Mapping[str, Any], runtime: "Runtime") -> None:
    """Evaluate the model of a run on the validation images: results.json, and the images that it predicts wrongly."""
    from mlcli.api import misclassified
    from mlcli.api.outputs import write_beside
    from mlcli.methods.evaluation import classification
    from mlcli.models import registry

    model = registry.load(str(folder.folder)).to(runtime)
    probabilities = classification.predictions(model, images, runtime)
    pairs = zip(images.class_labels.tolist(), probabilities, strict=True)
    evaluation = classification.evaluate(model.classes, pairs).as_json()
    record = partial(write_beside, command="train", options=options, model=model)
    wrong = misclassified.draw(folder, model.classes, images, probabilities, record)
    folder.save_results({"classes": list(model.classes), "validation": evaluation, "misclassified": wrong})

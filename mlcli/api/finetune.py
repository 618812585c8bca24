"""`mlcli.finetune`: a trained network learns other classes from few images."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, complain, say
from mlcli.counting import counted
from mlcli.errors import DataError, UsageError
from mlcli.methods.learning import configs
from mlcli.methods.learning.configs import Finetune
from mlcli.options import DATA, METHOD, option, same

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.data.folders import ClassFolder
    from mlcli.data.image_dataset import ImageDataset
    from mlcli.io.schema import Check
    from mlcli.methods.learning.supervised import Supervised
    from mlcli.models.model import Model
    from mlcli.training.plan import Plan
    from mlcli.training.run_folder import Run

    Labeled = tuple[ClassFolder, ImageDataset]  # a folder, and its images as the model takes them


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(common.Trains, common.UsesModel):
    data: Path = common.class_folders()
    freeze: str = same(Finetune, "freeze")
    val: str | float | None = option(
        None,
        "Labeled folder, archive or CSV list to test on, or the fraction of DATA to hold out, as in 0.1.",
        cli_type=str,
        shown_default=f"cross-validation; with more than {configs.SCARCE} images, one part of --folds is held out",
        panel=DATA,
    )
    folds: int = option(
        5,
        "Number of folds of DATA in the cross-validation; each tests a model fitted on the others.",
        minimum=2,
        maximum=100,
        panel=DATA,
    )
    balanced: bool = same(Finetune, "balanced")
    copies: int = same(Finetune, "copies")
    flip: bool = same(Finetune, "flip")
    shift: int = same(Finetune, "shift")
    epochs: int = same(Finetune, "epochs")
    batch_size: int | None = same(
        Finetune, "batch_size", default=None, shown_default=f"a tenth of DATA, at most {Finetune.batch_size}"
    )
    lr: float = same(Finetune, "lr")
    decay: float = same(Finetune, "decay")
    weight_decay: float = same(Finetune, "weight_decay")
    baseline: bool = option(
        False,
        "Train the same network from scratch too, for comparison (needs --val); it takes longer than the rest.",
        "--baseline/--no-baseline",
        panel=METHOD,
    )


@dataclass(frozen=True)
class FinetuneResult:
    """A finished run.

    folder: the run folder, which every function takes as `model`.  results: what its results.json holds: evaluations
    by name ("validation" or "folds", "last layer alone", "baseline"), the regularization "l2" of the last layer, the
    number of "misclassified" images, which misclassified.png shows, and perhaps a "note".
    """

    folder: Path
    results: Mapping[str, Any]

    @property
    def evaluations(self) -> dict[str, Mapping[str, Any]]:
        """accuracy, balanced_accuracy, their 95 % intervals and the confusions, by what was evaluated."""
        return {name: entry for name, entry in self.results.items() if isinstance(entry, dict)}

    def as_json(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "results": dict(self.results)}


@function(FinetuneConfig)
def finetune(call: Call[FinetuneConfig]) -> FinetuneResult:
    """Train the last layers of a trained network on other classes, from few images (transfer learning).

    data is a folder with one folder of images per class. The layers of the model are kept, and the last one is solved
    for these classes, a convex problem; with `freeze`, deeper layers are tuned by gradient descent at lower learning
    rates (Howard & Ruder 2018, discriminative fine-tuning). The accuracy is estimated on `val`, or by
    cross-validation of the last layer alone. With `resume` an interrupted run continues to the same numbers, and a
    finished one is left as it is.

        >>> import mlcli
        >>> result = mlcli.finetune("horses", output="runs/horses")  # doctest: +SKIP
        >>> result.evaluations["folds"]["balanced_accuracy"]  # doctest: +SKIP
        0.953

    Raises UsageError where the output folder holds something else, and for a layer that the model has not; DataError
    for fewer than two classes with readable images, and where nothing can be held out; TrainingError where the loss
    becomes infinite.
    """
    from mlcli.api import misclassified, run_reports, runs
    from mlcli.api.layer_names import addresses
    from mlcli.api.outputs import write_beside
    from mlcli.methods.learning import finetuning
    from mlcli.models import registry
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call)
    if runs.finished(call, folder, options, processes, [folder.results_file]) is not None:
        return FinetuneResult(folder.folder, folder.results(_check_of_results()))
    given = registry.load(options["model"], options["weights"]).to(runtime)
    features = finetuning.Features(given, runtime)
    finetuning.frozen(given, options["freeze"])  # raises where there is no such layer
    last_frozen = addresses(given, [options["freeze"]]) if options["freeze"] not in ("all", "none") else {}
    seed_global(options["seed"], "training/initialization")
    training, validation = _read(options, given, call.config)
    if options["baseline"] and not validation:
        raise UsageError("--baseline: is compared on images that neither network learns from; name them with --val")
    config = _hyperparameters(options, len(training[1]))
    note = {}
    if config.freeze != "all" and not validation:
        note = {"note": f"--freeze {config.freeze}: folds test the last layer alone; --val tests the tuned network"}
        complain(note["note"])
    data = {"training": runs.summary(*training), "model": {"count": 1, "hash": given.hash, "addresses": last_frozen}}
    if validation:
        data["validation"] = runs.summary(*validation)
    resumed = call.config.resume and folder.exists()
    if processes.main:
        runs.start(folder, "finetune", options | asdict(config), data, resume=call.config.resume)
    processes.wait()

    def vectors(name: str, images: "ImageDataset", copies: int) -> "Tensor":
        with Progress(len(images), f"features of the {name} images") as bar:
            arguments = images, config, folder.state_folder, name, processes
            return features.of(*arguments, copies=copies, report=bar.to)

    def fit(run: "Run", method: "Supervised", plan: "Plan") -> None:
        if run is not folder and processes.main:  # the baseline
            runs.start(run, "train", asdict(method.config), {"training": data["training"]}, resume=resumed)
        processes.wait()
        runs.fit(run, method, replace(plan, save_every=options["save_every"]), processes)

    with runs.interruptible(folder):
        if not folder.results(_check_of_results()):
            classes, tested = training[0].classes, validation[1] if validation else None
            transfer = finetuning.Transfer(features, classes, training[1], tested, config, processes, fit)
            learned = transfer.learn(
                vectors("training", training[1], finetuning.most_copies(config)),
                vectors("validation", tested, 0)[:, 0] if tested else None,
                options["folds"],
                folder,
                folder.part("baseline") if options["baseline"] else None,
            )
            if processes.main:
                results = {name: evaluation.as_json() for name, evaluation in learned.evaluations.items()}
                wrong = 0
                if (probabilities := learned.probabilities) is not None:
                    record = partial(write_beside, command="finetune", options=options, model=given)
                    wrong = misclassified.draw(folder, classes, learned.tested, probabilities, record)
                found = {"l2": learned.l2, "classes": list(classes)} | results | {"misclassified": wrong} | note
                folder.save_results(found)
            processes.wait()
        results = folder.results(_check_of_results())
    if processes.main:
        run_reports.write(folder)  # a run that was killed after its results has none yet
    runs.finish(folder, options, processes)
    return FinetuneResult(folder.folder, results)


def _hyperparameters(options: Mapping[str, Any], images: int) -> Finetune:
    """The hyperparameters of these options; small data sets get small batches, so that an epoch has several steps."""
    batch_size = options["batch_size"] or min(Finetune.batch_size, max(2, images // 10 // 2 * 2))
    given = {field.name: options[field.name] for field in fields(Finetune) if field.name in options}
    return Finetune(**given | {"batch_size": batch_size})


def _read(options: Mapping[str, Any], model: "Model", config: common.Trains) -> "tuple[Labeled, Labeled | None]":
    """(training, validation) sets as the model takes them; what is left out is said.

    Classes without a readable image are left out. Raises DataError where fewer than two remain.
    """
    from mlcli.api import runs
    from mlcli.api.inputs import class_folder
    from mlcli.data import class_images
    from mlcli.data.duplicates import without_duplicates

    whole = class_folder(options["data"], val=True)
    whole.require_classes(2)
    whole, problems, contents = without_duplicates(whole)
    _complain_of(problems)
    val = options["val"]
    separate = val is not None and class_images.is_labeled(val)
    validation: ClassFolder | None
    if separate:
        training, validation = whole, class_folder(val, whole.classes, learns=False)
        validation, problems, _ = without_duplicates(validation, contents)
        _complain_of(problems)
    else:
        training, validation = _divided(whole, options)
    preprocessing = model.preprocessing

    def read(folder: "ClassFolder") -> "ImageDataset":
        size, channels = preprocessing.crop, preprocessing.channels
        return runs.read_images(folder, size, channels, config, preprocessing.prepare)

    training, validation, images = runs.read_training(training, validation, read)
    held_out = read(validation) if validation else None
    counts = images.class_labels.bincount()
    if held_out is not None and not separate:
        counts += held_out.class_labels.bincount(minlength=len(counts))
    single = [name for name, count in zip(training.classes, counts.tolist(), strict=True) if count == 1]
    words = "to learn from" if separate else "which is learned and cannot be tested"
    _complain_of(f"{whole.root}: one image of {name!r}, {words}" for name in single)
    if validation is None or held_out is None:
        return (training, images), None
    return (training, images), (validation, held_out)


def _complain_of(problems: Iterable[object]) -> None:
    for problem in problems:
        complain(problem)


def _divided(whole: "ClassFolder", options: Mapping[str, Any]) -> "tuple[ClassFolder, ClassFolder | None]":
    """(training, validation) of DATA. Of so many images that folds would take long, a part is held out unasked.

    Raises DataError where --val asks for a fraction and no class has two images.
    """
    from mlcli.api.runs import with_validation

    val, seed = options["val"], options["seed"]
    if val is not None:
        training, validation = with_validation(whole, val, seed, keep_single=True)
        if validation is None or not validation.paths:
            raise DataError(f"{whole.root}: --val {val} can hold nothing out, for each class has one image")
        return training, validation
    if len(whole.paths) <= configs.SCARCE:
        return whole, None
    training, validation = whole.split(1 / options["folds"], seed, keep_single=True)
    if not validation.paths:
        return whole, None
    held = len(validation.paths)
    say(f"{whole.root}: held out to test on, as by --val: {held} of {counted(len(whole.paths), 'image')}")
    return training, validation


def _check_of_results() -> "Check":
    """What results.json of this command holds: evaluations by name, beside numbers and text."""
    from mlcli.io.schema import items, mapping, number, record

    fraction, interval = number(0, 1), items(number(0, 1), 2, 2)
    balanced = {"balanced_accuracy": fraction, "balanced_interval": interval}
    evaluation = record({"accuracy": fraction, "interval": interval, **balanced})
    return mapping(lambda value: evaluation(value) if isinstance(value, dict) else value)

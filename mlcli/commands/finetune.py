"""`mlcli finetune`"""

import os
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.api.events import Progress, complain, say
from mlcli.commands import _learning as learning
from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.methods.learning import configs

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.data.folders import ClassFolder
    from mlcli.data.image_dataset import ImageDataset
    from mlcli.io.schema import Check
    from mlcli.methods.learning.finetuning import Learned
    from mlcli.models.registry import Model
    from mlcli.runtime.processes import Processes
    from mlcli.training.method import Method
    from mlcli.training.plan import Plan
    from mlcli.training.run_folder import Run

DEFAULT = configs.Finetune()
SHOWN, SIDE = 60, 96  # images of a contact sheet, and pixels a side


@option.reads_images
def run(
    context: typer.Context,
    data: learning.Data,
    output: option.RunFolder,
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    freeze: Annotated[
        str,
        typer.Option("--freeze", help="all but the last layer, none, or a STAGE (conv3): all up to and including it."),
    ] = DEFAULT.freeze,
    val: Annotated[
        str | None,
        typer.Option(
            "--val",
            help="A labeled folder, or the share of DATA to hold out; without, folds estimate, or of more than "
            f"{configs.SCARCE} images a part of --folds is held out.",
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=2, max=100, help="Parts of DATA, each tested on what the others teach.")
    ] = 5,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Classes weigh the same, however many images each has.")
    ] = DEFAULT.balanced,
    copies: Annotated[
        int, typer.Option("--copies", min=0, max=100, help="Of each image: its mirror image, then shifted ones.")
    ] = DEFAULT.copies,
    flip: learning.Flip = DEFAULT.flip,
    shift: learning.Shift = DEFAULT.shift,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Of the deeper layers.")] = DEFAULT.epochs,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=2, help=f"Default {DEFAULT.batch_size}, or a tenth of DATA.")
    ] = None,
    lr: Annotated[float, typer.Option("--lr", min=0, help="The highest rate of the last stage.")] = DEFAULT.lr,
    decay: Annotated[
        float, typer.Option("--decay", min=0, max=1, help="The rate of a stage by that of the one above it.")
    ] = DEFAULT.decay,
    weight_decay: learning.WeightDecay = DEFAULT.weight_decay,
    baseline: Annotated[
        bool,
        typer.Option("--baseline/--no-baseline", help="Train the same network from scratch too, to compare (--val)."),
    ] = False,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    save_every: option.SaveEvery = 60,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Teach a trained network other classes from few images.

    The layers of the model stay, the last one is solved anew for the classes of DATA; with --freeze, deeper layers
    follow at lower rates. Says how often the result is right, by --val or by folds, and shows the images on which it
    is wrong; folds test the last layer alone. The result is a model for --model. --baseline takes longer than all else,
    and is off for that.
    """
    from mlcli.api import runs
    from mlcli.errors import UsageError
    from mlcli.methods.learning import finetuning
    from mlcli.models import registry
    from mlcli.reporting import report
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call_of(context))
    given = registry.load(options["model"], options["weights"]).to(runtime)
    features = finetuning.Features(given, runtime)
    finetuning.frozen(given, options["freeze"])  # that there is such a layer
    seed_global(options["seed"], "training/initialization")
    training, validation = _read(options, given, workers, processes)
    if options["baseline"] and not validation:
        raise UsageError("--baseline: is compared on images that neither network learns from; name them with --val")
    config = _config(options, len(training[1]))
    note = {}
    if config.freeze != "all" and not validation:
        note = {"note": f"--freeze {config.freeze}: folds test the last layer alone; --val tests the tuned network"}
    for message in note.values() if processes.main else ():
        complain(message)
    data = {"training": runs.summary(*training), "model": {"count": 1, "hash": given.hash}}
    if validation:
        data["validation"] = runs.summary(*validation)
    resumed = resume and folder.exists()
    if processes.main:
        runs.start(folder, "finetune", options | asdict(config), data, resume=resume)
    processes.wait()

    def vectors(name: str, images: "ImageDataset", copies: int) -> "Tensor":
        with Progress(len(images), f"features of the {name} images") as bar:
            arguments = images, config, folder.state_folder, name, processes
            return features.of(*arguments, copies=copies, report=bar.to)

    def fit(run: "Run", method: "Method", plan: "Plan") -> None:
        if run is not folder and processes.main:  # the baseline
            runs.start(run, "train", asdict(method.config), {"training": data["training"]}, resume=resumed)
        processes.wait()
        runs.fit(run, method, replace(plan, save_every=options["save_every"]), processes)

    with runs.interruptible(folder):
        if not folder.results(_results()):
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
                wrong = _misclassified(folder, classes, learned, options, given)
                folder.save_results({"l2": learned.l2} | results | {"misclassified": wrong} | note)
            processes.wait()
        results = folder.results(_results())
    if processes.main:
        report.write(folder)  # of a run that was killed between the two, too
        say(f"{folder.folder}: done{_said(results)}")
    processes.close()


def _config(options: dict, images: int) -> configs.Finetune:
    """The config of the options; small sets get small batches, so that there are some steps in an epoch."""
    batch_size = options["batch_size"] or min(DEFAULT.batch_size, max(2, images // 10 // 2 * 2))
    given = {field.name: options[field.name] for field in fields(configs.Finetune) if field.name in options}
    return configs.Finetune(**given | {"batch_size": batch_size})


Data = tuple["ClassFolder", "ImageDataset"]


def _read(options: dict, model: "Model", workers: int | None, processes: "Processes") -> tuple[Data, Data | None]:
    """(training, validation): folder and images as the model takes them. What is left out is named.

    Classes without a readable image are none. Raises DataError where fewer than two are left.
    """
    from mlcli.api import runs
    from mlcli.api.inputs import class_folder
    from mlcli.data.duplicates import without_duplicates

    def tell(problems: list) -> None:
        for problem in problems if processes.main else ():
            complain(problem)

    whole = class_folder(options["data"], val=True)
    whole.require_classes(2)
    whole, problems, contents = without_duplicates(whole)
    tell(problems)
    val = options["val"]
    apart = val is not None and os.path.isdir(val)  # --val is a folder of its own
    if apart:
        training, validation = whole, class_folder(val, whole.classes, learns=False)
        validation, problems, _ = without_duplicates(validation, contents)
        tell(problems)
    else:
        training, validation = _divided(whole, options)
    settings = model.preprocessing

    def read(folder: "ClassFolder") -> "ImageDataset":
        arguments = settings.crop, settings.channels, workers, processes, settings.prepare
        return runs.read_images(folder, *arguments)

    training, validation, images = runs.read_training(training, validation, read, processes)
    held_out = read(validation) if validation else None
    counts = images.labels.bincount()
    if held_out is not None and not apart:
        counts += held_out.labels.bincount(minlength=len(counts))
    single = [name for name, count in zip(training.classes, counts.tolist(), strict=True) if count == 1]
    words = "to learn from" if apart else "which is learned and cannot be tested"
    tell([f"{whole.root}: one image of {name!r}, {words}" for name in single])
    return (training, images), (validation, held_out) if validation else None


def _divided(whole: "ClassFolder", options: dict) -> tuple["ClassFolder", "ClassFolder | None"]:
    """(training, validation) of DATA: of so many images that folds would take long, a part is held out unasked.

    Raises DataError where --val asks for a share and no class has two images.
    """
    from mlcli.api.runs import with_validation
    from mlcli.errors import DataError

    val, seed = options["val"], options["seed"]
    if val is not None:
        training, validation = with_validation(whole, val, seed, keep_single=True)
        if not validation.paths:
            raise DataError(f"{whole.root}: --val {val} can hold nothing out, for each class has one image")
        return training, validation
    if len(whole.paths) <= configs.SCARCE:
        return whole, None
    training, validation = whole.split(1 / options["folds"], seed, keep_single=True)
    if not validation.paths:
        return whole, None
    held = len(validation.paths)
    say(f"{whole.root}: {held} of {len(whole.paths)} images are held out to test on, as by --val")
    return training, validation


def _misclassified(run: "Run", classes: tuple[str, ...], learned: "Learned", options: dict, model: "Model") -> int:
    """Draw the images that are called wrongly, the surest errors first; their number."""
    from mlcli.api.outputs import write_beside
    from mlcli.io import image_io
    from mlcli.methods.evaluation.classification import errors
    from mlcli.reporting import canvas

    images, probabilities = learned.tested, learned.probabilities
    wrong, called = errors(probabilities, images.labels)
    if not len(wrong):
        return 0
    shown = wrong[:SHOWN]
    names = [(classes[images.labels[i]], classes[called[i]]) for i in wrong.tolist()]
    labels = [f"{canvas.shortened(is_, SIDE)}\n{canvas.shortened('as ' + as_, SIDE)}" for is_, as_ in names[:SHOWN]]
    tiles = images.batch(shown).expand(-1, 3, -1, -1)
    file = run.misclassified_file
    image_io.write(canvas.grid(tiles, labels, side=SIDE), file)
    results = [
        {"image": str(images.paths[i]), "is": is_, "called": as_, "probability": probabilities[i].max().item()}
        for i, (is_, as_) in zip(wrong.tolist(), names, strict=True)
    ]
    write_beside(file, "finetune", options, model, results=results)
    return len(wrong)


def _results() -> "Check":
    """What results.json of this command holds: evaluations by name, beside figures and words."""
    from mlcli.io.schema import items, mapping, number, record

    rate, interval = number(0, 1), items(number(0, 1), 2, 2)
    of_classes = {"balanced_accuracy": rate, "balanced_interval": interval}
    evaluation = record({"accuracy": rate, "interval": interval, **of_classes})
    return mapping(lambda value: evaluation(value) if isinstance(value, dict) else value)


def _said(results: dict) -> str:
    """The figures of a run in a line."""

    def figures(entry: dict) -> str:
        parts = [(entry["accuracy"], entry["interval"]), (entry["balanced_accuracy"], entry["balanced_interval"])]
        shown = [f"{value:.1%} ({low:.1%} to {high:.1%})" for value, (low, high) in parts]
        return f"accuracy {shown[0]}, balanced {shown[1]}"

    return "".join(f"; {name}: {figures(entry)}" for name, entry in results.items() if isinstance(entry, dict))

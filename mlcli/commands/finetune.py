"""`mlcli finetune`"""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.commands import _learning as learning
from mlcli.commands import _options as option
from mlcli.commands._report import Progress, complain, say
from mlcli.methods import recipes

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.engine.folders import ClassFolder
    from mlcli.engine.models import Model
    from mlcli.engine.picture_set import PictureSet
    from mlcli.engine.processes import Processes
    from mlcli.engine.runs import Run
    from mlcli.engine.runtime import Runtime
    from mlcli.engine.training import Plan
    from mlcli.methods.classification import Evaluation
    from mlcli.methods.finetuning import Features

DEFAULT = recipes.Finetune()
SCARCE = 2000  # pictures, up to which an estimate by folds is worth its time
SHOWN, SIDE = 60, 96  # pictures of a contact sheet, and pixels a side


def run(
    context: typer.Context,
    data: learning.Data,
    output: option.RunFolder,
    model: option.Model = "cifarnet",
    weights: option.Weights = None,
    freeze: Annotated[
        str,
        typer.Option("--freeze", help="all but the last layer, none, or a STAGE (conv3): all up to and including it."),
    ] = DEFAULT.freeze,
    val: Annotated[
        str | None,
        typer.Option("--val", help="A labelled folder, or the share of DATA to hold out; without, folds estimate."),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=2, max=100, help="Parts of DATA, each tested on what the others teach.")
    ] = 5,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Classes weigh the same, however many pictures each has.")
    ] = DEFAULT.balanced,
    copies: Annotated[
        int, typer.Option("--copies", min=0, max=100, help="Of each picture: its mirror image, then shifted ones.")
    ] = DEFAULT.copies,
    flip: learning.Flip = DEFAULT.flip,
    translate: learning.Translate = DEFAULT.translate,
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
    """Teach a trained network other classes from few pictures.

    The layers of the model stay, the last one is solved anew for the classes of DATA; with --freeze, deeper layers
    follow at lower rates. Says how often the result is right, by --val or by folds, and shows the pictures on which it
    is wrong. The result is a model for --model. --baseline takes longer than all else, and is off for that.
    """
    from mlcli.commands import _training
    from mlcli.commands._result import resume_command
    from mlcli.engine import models
    from mlcli.engine.processes import Processes
    from mlcli.engine.runtime import Runtime, choose_device, seed_everything
    from mlcli.errors import RunError, UsageError
    from mlcli.methods import finetuning

    processes = Processes(choose_device(device))
    folder, options = _training.open_run("finetune", context, output, overwrite=overwrite, resume=resume)
    processes.wait()  # all have looked at the folder before one writes to it
    if options["baseline"] and options["val"] is None:
        raise UsageError("--baseline: is compared on pictures that neither network learns from; name them with --val")
    runtime = replace(Runtime.choose(device, options["precision"]).for_training(), device=processes.device)
    given = models.load(options["model"], options["weights"]).to(runtime)
    features = finetuning.Features(given, runtime)
    finetuning.frozen(given, options["freeze"])  # that there is such a layer
    seed_everything(options["seed"])
    training, validation = _read(options, given, workers, processes, quiet)
    recipe = _recipe(options, len(training[1]))
    data = {"training": _training.summary(*training), "model": {"count": 1, "hash": given.hash}}
    if validation:
        data["validation"] = _training.summary(*validation)
    resumed = resume and folder.exists()
    if resumed and folder.load_config()["data"]["model"]["hash"] != given.hash:
        raise RunError(f"{output}: began with other weights of {given.name}; bring them back, or begin another run")
    if processes.main:
        _training.start(folder, "finetune", options | asdict(recipe), data, resume=resume)
    processes.wait()
    try:
        results = folder.results()
        if not results:
            work = Work(folder, features, training, validation, recipe, options, runtime, processes, quiet, resumed)
            results = work.results()
    except (KeyboardInterrupt, SystemExit):
        say(f"{output}: interrupted; what is computed is kept. Resume with: {resume_command()}", quiet)
        raise
    if processes.main:
        say(f"{folder.folder}: done{_said(results)}", quiet)
    processes.close()


def _recipe(options: dict, pictures: int) -> recipes.Finetune:
    """The recipe of the options; small sets get small batches, so that there are some steps in an epoch."""
    batch_size = options["batch_size"] or min(DEFAULT.batch_size, max(2, pictures // 10 // 2 * 2))
    given = {field.name: options[field.name] for field in fields(recipes.Finetune) if field.name in options}
    return recipes.Finetune(**given | {"batch_size": batch_size})


Data = tuple["ClassFolder", "PictureSet"]


def _read(
    options: dict, model: "Model", workers: int | None, processes: "Processes", quiet: bool
) -> tuple[Data, Data | None]:
    """(training, validation): folder and pictures as the model takes them. What is left out is named.

    Classes without a readable picture are none. Raises DataError where fewer than two are left.
    """
    from mlcli.commands import _training
    from mlcli.engine.duplicates import without_duplicates
    from mlcli.engine.folders import ClassFolder

    def tell(problems: list) -> None:
        for problem in problems if processes.main else ():
            complain(problem)

    whole = ClassFolder.open(options["data"])
    whole.require_classes(2)
    whole, problems, contents = without_duplicates(whole)
    tell(problems)
    val = options["val"]
    if val is None and len(whole.paths) > SCARCE:
        val = str(1 / options["folds"])
    training, validation = _training.with_validation(whole, val, options["seed"], keep_single=True)
    if validation and Path(val).is_dir():
        validation, problems, _ = without_duplicates(validation, contents)
        tell(problems)
    settings = model.preprocessing

    def read(folder: "ClassFolder") -> "PictureSet":
        arguments = settings.crop, settings.channels, workers, processes, quiet, settings.prepare
        return _training.read_pictures(folder, *arguments)

    pictures = read(training)
    counts = pictures.labels.bincount(minlength=len(training.classes)).tolist()
    absent = {label for label, count in enumerate(counts) if not count}
    tell([f"{whole.root}: no picture of {training.classes[label]!r} can be used; it is left out" for label in absent])
    if absent:
        good = set(pictures.paths)
        training = training.part(index for index, path in enumerate(training.paths) if path in good).without(absent)
        validation = validation and validation.without(absent)
        training.require_classes(2)
        pictures = read(training)
    if validation is None:
        counts = pictures.labels.bincount().tolist()
        single = [name for name, count in zip(training.classes, counts, strict=True) if count == 1]
        tell([f"{whole.root}: one picture of {name!r}, which is learned and cannot be tested" for name in single])
    return (training, pictures), (validation, read(validation)) if validation else None


@dataclass
class Work:
    """All that is computed for a run, in the order in which one thing needs another."""

    run: "Run"
    features: "Features"
    training: Data
    validation: Data | None
    recipe: recipes.Finetune
    options: dict
    runtime: "Runtime"
    processes: "Processes"
    quiet: bool
    resumed: bool

    def results(self) -> dict:
        """Compute and write everything; what results.json says."""
        from mlcli.engine import report
        from mlcli.methods import finetuning
        from mlcli.methods import logistic_regression as logistic

        folder, pictures = self.training
        x = self._features("training", pictures, finetuning.most_copies(self.recipe))
        problem = logistic.Problem(x, pictures.labels, len(folder.classes), self.recipe.balanced)
        fold = logistic.folds(pictures.labels, self.options["folds"], self.recipe.seed)
        if len(pictures) > SCARCE:
            fold[fold > 0] = -1  # one part says enough of l2
        solved = logistic.fit(problem, fold)
        model = finetuning.with_last_layer(self.features.model, self.features.head, solved, folder.classes)
        results = {"l2": solved.l2}
        if self.validation:
            tested = self.validation[1]
            probabilities = solved.probabilities(self._features("validation", tested, 0)[:, 0])
        elif self.processes.main:
            tested, probabilities = pictures, logistic.held_out(problem, fold)
        if self.recipe.freeze != "all":
            tuned = self._tune(model)
            if self.validation:
                results["last layer alone"] = self._evaluation(probabilities, tested).as_json()
                probabilities = tuned
        elif self.processes.main:
            self.run.save_model(model.network.state_dict(), model.describe() | {"recipe": asdict(self.recipe)})
        if self.options["baseline"]:
            results["baseline"] = self._baseline(model).as_json()
        if self.processes.main:
            deep = "" if self.recipe.freeze == "all" else ", last layer alone"
            name = "validation" if self.validation else f"folds{deep}"
            evaluation = self._evaluation(probabilities, tested)
            if evaluation.count:  # with one picture of each class there is nothing to test
                results[name] = evaluation.as_json()
            results["misclassified"] = self._misclassified(probabilities, tested)
            self.run.save_results(results)
            report.write(self.run)
        self.processes.wait()
        return self.run.results()

    def _features(self, name: str, pictures: "PictureSet", copies: int) -> "Tensor":
        quiet = self.quiet or not self.processes.main
        with Progress(len(pictures), f"features of the {name} pictures", quiet=quiet) as bar:
            arguments = pictures, self.recipe, self.run.state_folder, name, self.processes
            return self.features.of(*arguments, copies=copies, report=bar.to)

    def _plan(self, recipe: recipes.Supervised) -> "Plan":
        from mlcli.engine.training import Plan

        plan = Plan(
            len(self.training[1]),
            recipe.batch_size,
            recipe.epochs,
            recipe.seed,
            save_every=self.options["save_every"],
        )
        self.processes.check_batch(plan.batch_size)
        return plan

    def _tune(self, model: "Model") -> "Tensor | None":
        """Train what is not frozen; the model's probabilities of the validation pictures."""
        from mlcli.commands import _training
        from mlcli.methods.finetuning import FineTuning

        plan = self._plan(self.recipe)
        method = FineTuning(
            model, self.training[1], self.recipe, plan.steps, self.runtime, self.processes, self._figures
        )
        _training.fit(self.run, method, plan, self.processes, quiet=self.quiet)
        return self._probabilities(model) if self.validation else None

    def _baseline(self, model: "Model") -> "Evaluation":
        """The same network from scratch on the same pictures, by the recipe of `mlcli train`."""
        from mlcli.commands import _training
        from mlcli.engine import models
        from mlcli.engine.runtime import seed_everything
        from mlcli.methods.supervised import Supervised

        run, pictures = self.run.part("baseline"), self.training[1]
        seed_everything(self.recipe.seed)
        scratch = models.untrained(model, model.classes)
        same = {name: self.options[name] for name in ("seed", "flip", "translate", "balanced")}
        recipe = recipes.supervised(same, len(pictures), model.architecture, model.has_batch_norm)
        plan = self._plan(recipe)
        method = Supervised(scratch, pictures, recipe, plan.steps, self.runtime, self.processes, self._figures)
        if self.processes.main:
            data = {"training": _training.summary(*self.training)}
            _training.start(run, "train", asdict(recipe), data, resume=self.resumed)
        self.processes.wait()
        _training.fit(run, method, plan, self.processes, quiet=self.quiet)
        return self._evaluation(self._probabilities(scratch), self.validation[1])

    def _probabilities(self, model: "Model") -> "Tensor":
        from mlcli.methods.classification import predictions

        return predictions(model, self.validation[1], self.runtime)

    def _figures(self, model: "Model") -> dict[str, float]:
        """What is logged of a network while it learns."""
        if not self.validation:
            return {}
        evaluation = self._evaluation(self._probabilities(model), self.validation[1])
        return {
            "val_accuracy": evaluation.correct / evaluation.count,
            "val_balanced_accuracy": evaluation.balanced_accuracy,
        }

    def _evaluation(self, probabilities: "Tensor", pictures: "PictureSet") -> "Evaluation":
        from mlcli.methods.classification import evaluate

        answers = zip(pictures.labels.tolist(), probabilities, strict=True)
        known = ((label, row) for label, row in answers if row.isfinite().all())  # the others were never held out
        return evaluate(self.training[0].classes, known)

    def _misclassified(self, probabilities: "Tensor", pictures: "PictureSet") -> int:
        """Draw the pictures that are called wrongly, the surest errors first; their number."""
        from mlcli.commands._result import write_beside
        from mlcli.engine import canvas, images
        from mlcli.methods.classification import errors

        wrong, called = errors(probabilities, pictures.labels)
        classes = self.training[0].classes
        if not len(wrong):
            return 0
        shown = wrong[:SHOWN]
        names = [(classes[pictures.labels[i]], classes[called[i]]) for i in wrong.tolist()]
        labels = [f"{canvas.shortened(is_, SIDE)}\n{canvas.shortened('as ' + as_, SIDE)}" for is_, as_ in names[:SHOWN]]
        tiles = pictures.batch(shown).expand(-1, 3, -1, -1)
        file = self.run.misclassified_file
        images.write(canvas.grid(tiles, labels, side=SIDE), file)
        results = [
            {"image": str(pictures.paths[i]), "is": is_, "called": as_, "probability": probabilities[i].max().item()}
            for i, (is_, as_) in zip(wrong.tolist(), names, strict=True)
        ]
        write_beside(file, "finetune", self.options, self.features.model, results=results)
        return len(wrong)


def _said(results: dict) -> str:
    """The figures of a run in a line."""

    def figures(entry: dict) -> str:
        parts = [(entry["accuracy"], entry["interval"]), (entry["balanced_accuracy"], entry["balanced_interval"])]
        shown = [f"{value:.1%} ({low:.1%} to {high:.1%})" for value, (low, high) in parts]
        return f"accuracy {shown[0]}, balanced {shown[1]}"

    return "".join(f"; {name}: {figures(entry)}" for name, entry in results.items() if isinstance(entry, dict))

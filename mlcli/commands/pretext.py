"""`mlcli pretext`"""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.api import inputs
from mlcli.commands import _learning as learning
from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import Progress, complain, say
from mlcli.methods.learning import configs

if TYPE_CHECKING:
    from mlcli.data.folders import ClassFolder
    from mlcli.io.schema import Check
    from mlcli.runtime.device import Runtime
    from mlcli.training.run_folder import Run

DEFAULT = configs.Pretext()
TESTED = 10_000  # of the images of --probe, at most


class Task(StrEnum):
    rotation = "rotation"
    jigsaw = "jigsaw"


DEFAULT_TASK = Task(DEFAULT.task)


@option.reads_images
def run(
    context: typer.Context,
    images: option.Images,
    output: option.RunFolder,
    task: Annotated[Task, typer.Option("--task", help="What makes the classes.")] = DEFAULT_TASK,
    permutations: Annotated[
        int, typer.Option("--permutations", min=2, max=1000, help="Orders of the tiles of the jigsaw.")
    ] = DEFAULT.permutations,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="cifarnet, or an architecture of torchvision or timm, from scratch; with --pretrained a model or the "
            "folder of a run.",
        ),
    ] = "cifarnet",
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Begin from the weights of --model, at a tenth of the learning rate."),
    ] = False,
    probe: Annotated[
        Path | None,
        typer.Option("--probe", help="A labeled folder: measure in the end what each layer says of its classes."),
    ] = None,
    labels: Annotated[int, typer.Option("--labels", min=2, help="Labeled images that a probe learns from.")] = 1000,
    val: Annotated[
        Path | None, typer.Option("--val", help="A labeled folder to test probes on; default others of --probe.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=8,
            help="Side in pixels; default that of the first image for cifarnet, at most 64, else 224; with "
            "--pretrained what the model has learned on.",
        ),
    ] = None,
    gray: learning.Gray = False,
    epochs: learning.Epochs = DEFAULT.epochs,
    steps: learning.Steps = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=2, help=f"Default {DEFAULT.batch_size}, or a twentieth of IMAGES.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", min=0, help="The highest rate; default by model and batch size.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Mirror images.")] = DEFAULT.flip,
    shift: learning.Shift = DEFAULT.shift,
    seed: option.Seed = DEFAULT.seed,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    save_every: option.SaveEvery = 60,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Train a network on images without labels.

    Classes are made by a transformation: the network learns by how much an image is turned, or how its tiles are
    shuffled, and to tell it must learn what images show. It begins from scratch or, with --pretrained, from what a
    model knows already. `mlcli finetune --model RUN` goes on from there with few labels. --probe says how good the
    layers are, beside those of a network that has learned nothing; of a run that is done, with --resume.
    """
    from mlcli.api import runs
    from mlcli.data.folders import ClassFolder
    from mlcli.errors import UsageError
    from mlcli.methods.learning import pretext
    from mlcli.models import catalog, registry, sizes
    from mlcli.models.pretrained import known as known_model
    from mlcli.models.pretrained import learner
    from mlcli.reporting import report
    from mlcli.runtime.random_streams import seed_global
    from mlcli.training.plan import Plan

    processes, runtime, folder, options = runs.begin(call_of(context))

    training = ClassFolder.of_one(inputs.named(options["images"])[0])
    labeled = _labeled(options)
    begun = known_model(options["model"]) if options.get("pretrained") else None
    if begun:
        if options["gray"]:
            raise UsageError("--gray: a pretrained network takes the channels that it has learned on; leave it out")
        side, channels = options["size"] or begun.preprocessing.crop, begun.preprocessing.channels
    else:
        side = options["size"] or sizes.default_size(options["model"], training.paths)
        channels = 1 if options["gray"] else 3
    dataset = runs.read_images(training, side, channels, workers, processes)
    data = {"training": runs.summary(training, dataset)}
    sets = {}
    for name, part in labeled.items():
        sets[name] = runs.read_images(part, side, channels, workers, processes)
        data[name] = runs.summary(part, sets[name])
    chosen = pretext.task(options["task"], options["permutations"], options["seed"])
    seed_global(options["seed"], "training/initialization")
    if begun:
        data["model"] = {"count": 1, "hash": begun.hash}
        model = learner(begun, chosen.classes, side)
    else:
        model = registry.create(options["model"], chosen.classes, side, channels)
    trained_in = runtime.for_training_of(model.network, options["precision"])
    defaults = catalog.training_defaults(model.architecture)
    config = configs.supervised(options, len(dataset), defaults, model.has_batch_norm, configs.Pretext)
    if begun:
        config = configs.gentler(config, options["lr"], model.has_batch_norm, len(dataset))
    plan = Plan(
        len(dataset),
        config.batch_size,
        config.epochs,
        config.seed,
        max_steps=options["steps"],
        save_every=options["save_every"],
    )
    processes.check_batch(plan.batch_size)
    method = pretext.Pretext(chosen, model, dataset, config, plan.steps, trained_in, processes)
    processes.wait()
    if processes.main:
        runs.start(folder, "pretext", options | asdict(config), data, resume=resume)
    processes.wait()
    figures = runs.fit(folder, method, plan, processes)
    if processes.main:
        said = "".join(f", {name} {value:.4f}" for name, value in figures.items())
        if labeled:
            results, measured_on = folder.results(_results()), {name: data[name]["hash"] for name in labeled}
            whole = {"labels", "best layer", "accuracy", "best layer of an untrained network", "untrained"}
            # of other images, or of a version that measured less
            if results.get("data") != measured_on or not whole <= results.keys():
                results = _probe(folder, labeled["probe"].classes, sets, runtime, config.seed, quiet)
                results |= {"data": measured_on}
                folder.save_results(results)
            report.write(folder)  # of a run that was killed between the two, too
            said += (
                f"; a probe of {results['best layer']} is right on {results['accuracy']:.1%} with {results['labels']} "
                f"labels, one of {results['best layer of an untrained network']} of an untrained network on "
                f"{results['untrained']:.1%}"
            )
        say(f"{folder.folder}: done{said}", quiet)
    processes.wait()
    processes.close()


def _labeled(options: dict) -> dict[str, "ClassFolder"]:
    """What probes learn from and are tested on; empty where none is asked for. What is left out is named on stderr.

    Of equal files one is taken, so that nothing is tested on what it learned from.
    """
    from mlcli.data.duplicates import content, without_duplicates
    from mlcli.errors import DataError, UsageError
    from mlcli.methods.learning.linear_probe import draw

    if options["probe"] is None:
        if options["val"] is not None:
            raise UsageError("--val: tests the probes; name the images that they learn from with --probe")
        return {}
    folder = inputs.class_folder(options["probe"])
    folder.require_classes(2)
    folder, problems, _ = without_duplicates(folder)
    learned, tested = draw(folder, options["labels"], TESTED, options["seed"])
    if options["val"] is not None:
        seen = set(filter(None, map(content, learned.paths)))
        tested, others, _ = without_duplicates(inputs.class_folder(options["val"], folder.classes, learns=False), seen)
        problems += others
    for problem in problems:
        complain(problem)
    if not tested.paths:
        raise DataError(f"{folder.root}: all its images are learned from; fewer --labels, or --val to test on")
    return {"probe": learned, "test": tested}


def _results() -> "Check":
    """What results.json of this command holds; a version that chose otherwise wrote less."""
    from mlcli.io.schema import integer, number, record, text

    layers = {"best layer": text(), "best layer of an untrained network": text()}
    rates = dict.fromkeys(("accuracy", "untrained"), number(0, 1))
    return record({}, {"labels": integer(0, 1 << 62), **layers, **rates})


def _probe(run: "Run", classes, sets: dict, runtime: "Runtime", seed: int, quiet: bool) -> dict:
    """Probe the network of the run beside an untrained one; what results.json says."""
    from mlcli.methods.learning.linear_probe import best, probe
    from mlcli.models import last_layer, registry
    from mlcli.runtime.random_streams import seed_global

    trained = registry.load(str(run.folder)).to(runtime)
    seed_global(seed, "training/initialization")
    untrained = last_layer.untrained(trained, trained.classes).to(runtime)
    found = []
    for model, what in ((trained, "the network"), (untrained, "an untrained network")):
        with Progress(None, f"probes of {what}", quiet=quiet) as bar:
            said = probe(model, classes, sets["probe"], sets["test"], runtime, seed, lambda done: bar.to(bar.done + 1))
        found.append(said)
    of_trained, of_untrained = found
    layer, other = best(of_trained), best(of_untrained)
    return {
        "labels": len(sets["probe"]),
        "tested": len(sets["test"]),
        "best layer": layer,
        "accuracy": of_trained[layer].accuracy,
        "best layer of an untrained network": other,
        "untrained": of_untrained[other].accuracy,
        "probes": {name: each.accuracy for name, each in of_trained.items()},
        "probes of an untrained network": {name: each.accuracy for name, each in of_untrained.items()},
    }

"""`mlcli.pretext`: a network learns from images without labels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, inputs
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, complain
from mlcli.errors import DataError, UsageError
from mlcli.methods.learning import configs
from mlcli.methods.learning.configs import Pretext
from mlcli.options import DATA, METHOD, NETWORK, option, same

if TYPE_CHECKING:
    from mlcli.data.folders import ClassFolder
    from mlcli.data.image_dataset import ImageDataset
    from mlcli.io.schema import Check
    from mlcli.runtime.device import Runtime
    from mlcli.training.run_folder import Run

MOST_TESTED = 10_000  # images of --probe that the probes are tested on


@dataclass(frozen=True, kw_only=True)
class PretextConfig(common.Trains):
    images: common.Paths = common.images()
    task: str = same(Pretext, "task")
    permutations: int = same(Pretext, "permutations")
    model: str = option(
        "cifarnet",
        "Architecture: cifarnet, or one of torchvision or timm; with --pretrained, a model or the folder of a run.",
        completes="architecture",
        cli_type=str,
        panel=NETWORK,
    )
    pretrained: bool = option(
        False, "Start from the weights of --model, at a tenth of the learning rate.", panel=NETWORK
    )
    probe: Path | None = option(
        None,
        "Labeled folder on which a linear probe of each layer is trained and tested at the end.",
        path="input",
        panel=METHOD,
    )
    labels: int = option(
        1000,
        "Number of labeled images that a probe learns from.",
        minimum=2,
        panel=METHOD,
        applies=lambda options: options["probe"] is not None,
    )
    val: Path | None = option(
        None,
        "Labeled folder to test the probes on.",
        path="input",
        shown_default="other images of --probe",
        panel=METHOD,
    )
    size: int | None = option(
        None,
        "Side of the training images in pixels.",
        minimum=8,
        shown_default="that of the first image for cifarnet, at most 64; 224 for others; the model's if --pretrained",
        panel=DATA,
    )
    gray: bool = common.gray()
    epochs: int = same(Pretext, "epochs")
    steps: int | None = common.steps_limit()
    batch_size: int | None = same(
        Pretext, "batch_size", default=None, shown_default="a twentieth of IMAGES, at most 1000 for cifarnet, else 64"
    )
    lr: float | None = same(
        Pretext, "lr", default=None, shown_default="0.08 for cifarnet, 0.1 for others, scaled with the batch size"
    )
    flip: bool = same(Pretext, "flip", help="Flip images from left to right at random.")
    shift: int = same(Pretext, "shift")

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", inputs.file_names(self.images))
        super().__post_init__()


@dataclass(frozen=True)
class PretextResult:
    """A finished run.

    folder: the run folder, which every function takes as `model`.  metrics: the last value of each metric, of the
    pretext task.  probes: what results.json holds of the linear probes, None without `probe`: "best layer", its
    "accuracy" (0 to 1) on "tested" images with so many "labels", the same of an untrained network ("untrained"), and
    the accuracies of all layers ("probes", "probes of an untrained network").
    """

    folder: Path
    metrics: Mapping[str, float]
    probes: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        probes = None if self.probes is None else dict(self.probes)
        return {"folder": str(self.folder), "metrics": dict(self.metrics), "probes": probes}


@function(PretextConfig)
def pretext(call: Call[PretextConfig]) -> PretextResult:
    """Train a network on images without labels, by a pretext task (Gidaris et al. 2018; Noroozi & Favaro 2016).

    A transformation of the images makes the classes: the network learns by how much an image is rotated, or how its
    tiles are shuffled, and for that it must learn what images show. `mlcli.finetune` takes the run as its `model`.
    With `probe`, linear probes (Alain & Bengio 2016) measure the layers, beside those of an untrained network; a
    finished run is probed with `resume`, which else leaves it as it is. An interrupted run continues with `resume` to
    the same numbers as one never interrupted.

        >>> import mlcli
        >>> result = mlcli.pretext("photos", output="runs/unlabeled")  # doctest: +SKIP
        >>> mlcli.finetune("horses", model=result.folder, output="runs/horses")  # doctest: +SKIP

    Images that cannot be read are left out and named. Raises UsageError for options that do not go together, and where
    the output folder holds something else; DataError where there is no readable image, or none to test a probe on;
    TrainingError where the loss becomes infinite.
    """
    from mlcli.api import runs
    from mlcli.data.folders import ClassFolder
    from mlcli.methods.learning import pretext as method
    from mlcli.models import catalog, registry, sizes
    from mlcli.models.pretrained import known, learner
    from mlcli.runtime.random_streams import seed_global

    processes, runtime, folder, options = runs.begin(call)
    files = [folder.results_file] if options["probe"] else []
    if (finished := runs.finished(call, folder, options, processes, files)) is not None:
        return PretextResult(folder.folder, finished, folder.results(_check_of_results()) if files else None)
    training = ClassFolder.of_one(inputs.files_named(options["images"]))
    labeled = _labeled(options)
    start = known(options["model"]) if options.get("pretrained") else None
    if start:
        if options["gray"]:
            raise UsageError("--gray: a pretrained network takes the channels that it has learned on; leave it out")
        side, channels = options["size"] or start.preprocessing.crop, start.preprocessing.channels
    else:
        side = options["size"] or sizes.default_size(options["model"], training.paths)
        channels = 1 if options["gray"] else 3

    def read(part: "ClassFolder") -> "ImageDataset":
        return runs.read_images(part, side, channels, call.config)

    images, sets = read(training), {name: read(part) for name, part in labeled.items()}
    data = {"training": runs.summary(training, images)}
    data |= {name: runs.summary(labeled[name], part) for name, part in sets.items()}
    task = method.task(options["task"], options["permutations"], options["seed"])
    seed_global(options["seed"], "training/initialization")
    if start:
        data["model"] = {"count": 1, "hash": start.hash}
        model = learner(start, task.classes, side)
    else:
        model = registry.create(options["model"], task.classes, side, channels)
    train_runtime = runtime.for_training_of(model.network, options["precision"])
    defaults = catalog.training_defaults(model.architecture)
    config = configs.supervised(options, len(images), defaults, model.has_batch_norm, Pretext)
    if start:
        config = configs.gentler(config, options["lr"], model.has_batch_norm, len(images))
    plan = runs.plan(len(images), config, options)
    processes.check_batch(plan.batch_size)
    trained = method.Pretext(task, model, images, config, plan.steps, train_runtime, processes)
    processes.wait()
    if processes.main:
        runs.start(folder, "pretext", options | asdict(config), data, resume=call.config.resume)
    processes.wait()
    metrics = runs.fit(folder, trained, plan, processes)
    probes = None
    if labeled and processes.main:
        hashes = {name: data[name]["hash"] for name in labeled}
        probes = _probed(folder, labeled["probe"].classes, sets, hashes, runtime, config.seed)
    processes.wait()
    runs.finish(folder, options, processes, metrics)
    return PretextResult(folder.folder, metrics, probes)


def _labeled(options: Mapping[str, Any]) -> dict[str, "ClassFolder"]:
    """What probes learn from ("probe") and are tested on ("test"); empty where none is asked for.

    What is left out is said. Of equal files one is taken, so that nothing is tested on what it learned from.
    """
    from mlcli.data.duplicates import content, without_duplicates
    from mlcli.methods.learning.linear_probe import draw

    if options["probe"] is None:
        if options["val"] is not None:
            raise UsageError("--val: tests the probes; name the images that they learn from with --probe")
        return {}
    folder = inputs.class_folder(options["probe"])
    folder.require_classes(2)
    folder, problems, _ = without_duplicates(folder)
    learned, tested = draw(folder, options["labels"], MOST_TESTED, options["seed"])
    if options["val"] is not None:
        seen = set(filter(None, map(content, learned.paths)))
        tested, others, _ = without_duplicates(inputs.class_folder(options["val"], folder.classes, learns=False), seen)
        problems += others
    for problem in problems:
        complain(problem)
    if not tested.paths:
        raise DataError(f"{folder.root}: all its images are learned from; fewer --labels, or --val to test on")
    return {"probe": learned, "test": tested}


def _probed(
    run: "Run",
    classes: Sequence[str],
    sets: Mapping[str, "ImageDataset"],
    hashes: Mapping[str, str],
    runtime: "Runtime",
    seed: int,
) -> dict[str, Any]:
    """The results of the probes, from results.json where it has those of the same images; else measured and saved."""
    from mlcli.api import run_reports

    results = run.results(_check_of_results())
    needed = {"labels", "best layer", "accuracy", "best layer of an untrained network", "untrained"}
    # Results of other images, or of a version that measured less, are measured again
    if results.get("data") != dict(hashes) or not needed <= results.keys():
        results = {**_probe(run, classes, sets, runtime, seed), "data": dict(hashes)}
        run.save_results(results)
    run_reports.write(run)  # a run that was killed after its results has none yet
    return results


def _check_of_results() -> "Check":
    """What results.json of this command holds; an earlier version wrote less."""
    from mlcli.io.schema import integer, number, record, text

    layers = {"best layer": text(), "best layer of an untrained network": text()}
    accuracies = dict.fromkeys(("accuracy", "untrained"), number(0, 1))
    return record({}, {"labels": integer(0, 1 << 62), **layers, **accuracies})


def _probe(
    run: "Run", classes: Sequence[str], sets: Mapping[str, "ImageDataset"], runtime: "Runtime", seed: int
) -> dict[str, Any]:
    """Probe the layers of the run's network, and those of an untrained network of the same architecture."""
    from mlcli.methods.learning.linear_probe import best, probe
    from mlcli.models import last_layer, registry
    from mlcli.runtime.random_streams import seed_global

    trained = registry.load(str(run.folder)).to(runtime)
    seed_global(seed, "training/initialization")
    untrained = last_layer.untrained(trained, trained.classes).to(runtime)
    found = []
    for model, name in ((trained, "the network"), (untrained, "an untrained network")):
        with Progress(None, f"probes of {name}") as bar:
            found.append(
                probe(model, classes, sets["probe"], sets["test"], runtime, seed, lambda layer: bar.to(bar.done + 1))
            )
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

"""Data, run folder and table of `mlcli adapt`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import inputs, runs
from mlcli.commands._report import Progress, complain, table
from mlcli.methods.adaptation.registry import METHODS, PRETRAINED, PRETRAINED_FEATURES, Adaptation, Adda

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.data.domains import Domain
    from mlcli.methods.adaptation.context import AdaptationContext, AdaptationResult
    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes
    from mlcli.training.method import Method
    from mlcli.training.plan import Plan
    from mlcli.training.run_folder import Run

TITLES = {
    "source_only": "source only",
    "adapted": "adapted",
    "last": "  its last step",
    "best_possible": "  best step, chosen with the test labels",
    "target_supervised": "trained on target labels",
    "held_out": "source only, held-out source images",
}


def config(options: Mapping[str, Any]) -> Adaptation:
    """The config of the method, with the values of the command line. UsageError for an option of another method."""
    from mlcli.errors import UsageError

    config_type = METHODS[options["method"]].config
    own = {field.name for field in fields(config_type)}
    others = {field.name for method in METHODS.values() for field in fields(method.config)} - own
    for name in sorted(others):
        if options.get(name) is not None:
            methods = [m for m, method in METHODS.items() if name in {field.name for field in fields(method.config)}]
            option = name.replace("_", "-")
            raise UsageError(f"--{option}: of --method {' and '.join(methods)}, not of {options['method']}")
    values = {name: options[name] for name in own if options.get(name) is not None}
    values["pretrained"] = bool(options.get("pretrained") or options.get("weights"))
    defaults: dict[str, Any] = {}
    if options["task"] == "segment":  # an image has thousands of labels, and its classes need not be equally frequent
        if values["pretrained"]:
            raise UsageError("--pretrained: --task segment takes unet, which comes without weights")
        defaults = {"model": "unet", "source_batch_size": 16, "select": "last"}
    if values["pretrained"]:
        defaults = PRETRAINED | (PRETRAINED_FEATURES if issubclass(config_type, Adda) else {})
    return config_type(**{name: value for name, value in defaults.items() if name in own} | values)


@dataclass
class Data:
    """The domains of a run. labeled_target: the images of `target` whose labels are given."""

    source: "Domain"
    target: "Domain"
    classes: tuple[str, ...]
    labeled_target: "Domain | None"
    test: "Domain | None"
    native: tuple["Tensor", "Tensor"]  # images (N, 3, S, S) of both domains before any conversion, for the guards

    def summary(self) -> dict[str, dict]:
        """The entries of config.json; for the target nothing that depends on labels or names."""
        sets = {"source": self.source, "target": self.target} | ({"test": self.test} if self.test else {})
        return {name: _summary(domain) for name, domain in sets.items()}


def _summary(domain: "Domain") -> dict[str, Any]:
    low, high = (int(value) for value in domain.images.aminmax())
    return {
        "count": len(domain),
        "size": domain.size,
        "channels": domain.channels,
        "value_range": [low, high],
        "hash": domain.digest(),
    }


def read(
    options: Mapping[str, Any],
    config: Adaptation,
    model: "Model | None",
    *,
    workers,
    processes: "Processes",
    quiet: bool,
) -> Data:
    """Read the domains. model: the pretrained model, if any. Raises UsageError, DataError."""
    from mlcli.errors import UsageError
    from mlcli.models import registry

    segment = options["task"] == "segment"
    load = _segmented if segment else _classified
    reading = {"workers": workers, "processes": processes}
    size = options["size"] or _size(options, config, model)
    source, classes = load(options["source"], size, None, labeled=True, **reading)
    target, _ = load(options["target"], size, classes, labeled=False, **reading)
    # Read apart: images without a label are part of the target as well
    known = load(options["target"], size, classes, labeled=True, **reading)[0] if options["target_labels"] else None
    test = load(options["test"], size, classes, labeled=True, **reading)[0] if options["test"] else None
    if len(classes) < 2:
        raise UsageError(f"{options['source']}: one class, two are needed")
    native = source.images, target.images
    gray = options["gray"] or all((p[:, :1] == p).all() for p in native)
    if model:
        channels = model.preprocessing.channels
    else:  # only networks that are made for small images are given one channel
        channels = 1 if gray and registry.trainable(config.model).follows_images else 3
    colorless = options["gray"] or channels == 1
    source, target, known, test = (
        each and (each.with_images(_colorless(each.images, channels)) if colorless else each)
        for each in (source.in_order(), target.in_order(), known and known.in_order(), test)
    )
    return Data(source, target, classes, known, test, native)


def _colorless(images: "Tensor", channels: int) -> "Tensor":
    """Gray images (N, C, S, S), with one channel or with three equal ones."""
    from mlcli.imaging import image_io

    return image_io.to_gray(images).expand(-1, channels, -1, -1).contiguous()


def _size(options: Mapping[str, Any], config: Adaptation, model: "Model | None") -> int:
    """The larger of the first images' sides of both domains, at most what suits, as a multiple that generators take."""
    from mlcli.models import pretrained, registry, sizes

    largest = 0 if model else registry.trainable(config.model).default_size
    sides = [
        pretrained.default_size(model, paths) if model else sizes.first_side(paths, sizes.LEAST, largest)
        for paths in (_paths(options[name], options["task"]) for name in ("source", "target"))
    ]
    multiple = 8 if config.translates else 4
    return -(-max(sides) // multiple) * multiple


def _paths(root: str, task: str, says: bool = False) -> list[Path]:
    """Every image of a domain, whatever folders they are in; of images/ and masks/ those in images/."""
    inside = Path(root) / "images"
    paths, _ = inputs.named([str(inside if task == "segment" and os.path.isdir(inside) else root)])
    return paths


def _classified(root: str, size: int, classes, *, labeled: bool, workers, processes):
    """(the images of a folder, the classes); labels by class folders where wanted, else they are never looked at."""
    from mlcli.data.domains import Domain
    from mlcli.data.folders import ClassFolder

    def read(folder: ClassFolder):
        return runs.read_images(folder, size, 3, workers, processes)

    says, source = processes.main, labeled and classes is None
    if labeled:
        folder = inputs.class_folder(root, classes, learns=source)
    else:
        folder = ClassFolder.of_one(_paths(root, "classify", says))
    if source:
        folder, _, images = runs.read_training(folder, None, read, processes)
    else:
        images = read(folder)
    return Domain.classified(root, images, labeled=labeled), folder.classes


def _segmented(root: str, size: int, classes, *, labeled: bool, workers, processes):
    """The same of images/ and masks/, whose files have equal names; masks hold the number of a class at each pixel."""
    from mlcli.data import domains

    paths = _paths(root, "segment" and not labeled)
    with Progress(len(paths), f"reading {root}") as bar:
        loading = {"workers": workers, "progress": lambda done, _: bar.to(done)}
        store, problems = (
            domains.read_masked(root, size, **loading) if labeled else domains.read_unmasked(paths, size, **loading)
        )
    for problem in problems if processes.main else ():
        complain(problem)
    return domains.segmented(root, store, classes)


def figures(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(header, rows) of the table of a result."""
    lines = []
    for name, entry in result.items():
        if isinstance(entry, Mapping) and "interval" in entry:
            low, high = entry["interval"]
            spread = "" if entry["sd"] is None else f"{entry['sd']:.2%}"
            title = TITLES.get(name, name.replace("_", " "))
            lines.append((title, f"{entry['mean']:.2%}", spread, f"{low:.2%} to {high:.2%}", str(len(entry["runs"]))))
    return ("", result["metric"], "sd", "95 % interval", "runs"), lines


def facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines below the table, as (name, value)."""
    found = []
    if (fraction := result.get("gap_closed")) is not None:
        found.append(("gap to the target's labels closed", f"{fraction:.0%}"))
    for name, words in (("mcnemar", "McNemar's test"), ("sign_test", "sign test")):
        for seed, test in zip(result["seeds"], result.get(name, ()), strict=False):
            only = f"{test['first_alone']} better before, {test['second_alone']} better after"
            found.append((f"{words}, seed {seed}", f"{only}, p = {test['p']:.2g}"))
    if flips := result.get("label_flip_rate"):
        # without a model of the target, only changes of the source model's predictions can be counted
        known = flips["classifier"] == "target_supervised"
        words = "labels flipped" if known else "predictions of the source model changed"
        found.append((f"{words} by the translation {flips['direction']}", f"{flips['mean']:.2%}"))
    for seed, chosen in zip(result["seeds"], result.get("selection", ()), strict=False):
        score = next(each["score"] for each in chosen["candidates"] if each["step"] == chosen["chosen"])
        by = "the last" if chosen["criterion"] == "last" else f"by {chosen['criterion']}, {score:.4f}"
        found.append((f"chosen without labels, seed {seed}", f"step {chosen['chosen']}, {by}"))
    for seed, value in zip(result["seeds"], result.get("source_model", ()), strict=False):
        same = "unchanged" if value["before"] == value["after"] else "CHANGED"
        found.append((f"source model, seed {seed}", f"{same}, sha256 {value['after'][:16]}"))
    return found


def per_class(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(header, rows) of the classes."""
    checkpoints = ("last", "best_possible")
    kept = {name: values for name, values in result.get("per_class", {}).items() if name not in checkpoints}
    names = list(dict.fromkeys(name for values in kept.values() for name in values))
    header = ("class", *(TITLES.get(name, name.replace("_", " ")) for name in kept))
    return header, [(name, *(f"{values[name]:.2%}" for values in kept.values())) for name in names]


def text(result: Mapping[str, Any]) -> str:
    """The tables as the terminal shows them."""
    header, lines = figures(result)
    words = table(header, lines, right=range(1, len(header))) if lines else ""
    words += "\n" + table(("", ""), facts(result))
    if "per_class" in result and len(result["per_class"]["adapted"]) <= 20:
        header, lines = per_class(result)
        words += "\n" + table(header, lines, right=range(1, len(header)))
    return words


def report_tables(result: Mapping[str, Any]) -> list[tuple]:
    """The tables of report.html."""
    guards = [(words,) for words in result["guards"]] or [("no warnings",)]
    tables = [("Guards", ("",), guards), ("Details", ("", ""), facts(result))]
    header, lines = figures(result)
    if lines:
        tables.insert(0, ("Result", header, lines))
    if "per_class" in result:
        tables.append(("Classes", *per_class(result)))
    return tables


# ------------------------------------------------------------------------------------------------ the run folder


def context_of(
    folder: "Run",
    data: Data,
    config: Adaptation,
    options: Mapping[str, Any],
    number: int,
    runtime: "Runtime",
    processes: "Processes",
    save_every: float,
    quiet: bool,
) -> "AdaptationContext":
    """The context of the run of this number, whose stages are run folders RUN/seed-N/STAGE."""
    from dataclasses import replace

    from mlcli.methods.adaptation.context import AdaptationContext

    seed = options["seed"] + number

    def stage(name: str) -> "Run":
        return folder.part(f"seed-{seed}", name)

    def fit(run: "Run", method: "Method", plan: "Plan") -> None:
        if processes.main:
            written = {"method": options["method"], "stage": run.folder.name, "seed": seed}
            written |= {name: getattr(config, name) for name in ("model", "pretrained", "weights")}
            runs.start(run, "adapt (a stage of the run in ../..)", written, {}, resume=True)
        processes.wait()
        runs.fit(run, method, replace(plan, save_every=save_every), processes)

    source, held_out = data.source.subset(options["max_source"], seed), None
    if (fraction := options.get("hold_out")) is not None:
        source, held_out = source.split(fraction, seed)
    target = drawn(data.target, options, number)
    return AdaptationContext(source, target, data.classes, config, seed, runtime, processes, stage, fit, held_out)


def drawn(target: "Domain", options: Mapping[str, Any], number: int) -> "Domain":
    """The part of the target that the run of this number takes."""
    return target.subset(options["max_target"], options["seed"] + number)


def save(folder: "Run", adapted: "AdaptationResult", method: str) -> None:
    """Write the result of a run: the model, and a translator where there is one."""
    from mlcli.models import artifacts, translators

    artifacts.save(folder.model_file, adapted.model.network.state_dict(), adapted.model.describe() | {"method": method})
    if made := adapted.translator:
        file = folder.folder / "translator.safetensors"
        translators.save_file(file, {"AtoB": made}, {"AtoB": made.network}, method=method)


def write_images(folder: "Run", images: Mapping[str, "Tensor"]) -> None:
    from mlcli.imaging.image_io import write

    for name, image in images.items():
        write(image, folder.samples_folder / f"{name}.png")

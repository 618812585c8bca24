"""What every training command does around its method: options on resume, data, the run folder, progress."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from mlcli.api import call as calls
from mlcli.api import run_reports
from mlcli.api.call import Call
from mlcli.api.common import Trains
from mlcli.api.events import Progress, complain, say
from mlcli.api.inputs import class_folder, files_digest, listed
from mlcli.api.outputs import check_unlocked, resume_command
from mlcli.api.stored_options import checked
from mlcli.counting import counted
from mlcli.data import class_images
from mlcli.data.folders import ClassFolder
from mlcli.data.image_dataset import ImageDataset
from mlcli.errors import DataError, Interrupted, MlcliError, RunError, UsageError
from mlcli.imaging import reading
from mlcli.io import locks
from mlcli.io.files import write_json
from mlcli.io.packed_tensors import PackedTensors
from mlcli.io.schema import Invalid
from mlcli.methods.generation.configs import Translation
from mlcli.methods.learning.configs import Supervised
from mlcli.runtime.device import Runtime, choose_device
from mlcli.runtime.processes import Processes
from mlcli.training import loop
from mlcli.training.method import Method
from mlcli.training.plan import Plan
from mlcli.training.run_folder import CONFIG_ADVICE, Run
from mlcli.training.tensorboard import Curves

# Options that change no number of the result; data sets are compared by the hash of their files.
FREE = {
    "output",
    "device",
    "workers",
    "cache_memory",
    "save_every",
    "sample_every",
    "tensorboard",
    "overwrite",
    "resume",
}
FREE |= {"data", "folder_a", "folder_b", "images", "source", "target", "side_by_side"}
# What may change when a run of a command is resumed, and is then written into its config: seeds, of which more
# leave the first ones as they are, and what is measured in the end, of which nothing is learned.
LATER = {"adapt": ("seeds", "test", "keep"), "pretext": ("probe", "labels", "val")}
# Options of the length of a run, which may change where the learning rate is the same at all steps
LENGTHS = ("epochs", "steps")
FURTHER = {
    "train": "mlcli finetune DATA --model {} --freeze none -o NEW",
    "finetune": "mlcli finetune DATA --model {} --freeze none -o NEW",
    "pretext": "mlcli finetune DATA --model {} --freeze none -o NEW",
    "pix2pix": "mlcli pix2pix DATA --from {} -o NEW",
    "cyclegan": "mlcli cyclegan FOLDER_A FOLDER_B --from {} -o NEW",
}
MEASURED = ("test", "probe")
FIRST_REPORT = 5.0  # seconds


def begin(call: Call[Any]) -> tuple[Processes, Runtime, Run, dict[str, Any]]:
    """The processes, what they compute with, and the run folder and options of `open_run`, of the call.

    The folder's lock is held until the call ends, by one process for all of its group. Raises BusyError where
    another process works in the folder.
    """
    output, overwrite, resume = (getattr(call.config, name) for name in ("output", "overwrite", "resume"))
    device = getattr(call.config, "device", "cpu")  # networks of a few neurons have no choice
    processes = Processes(choose_device(device))

    def inspect() -> tuple[Run, dict[str, Any]]:
        return open_run(call, output, overwrite=overwrite, resume=resume)

    problem = None
    if processes.main:
        try:
            check_unlocked(output, inspect)  # a folder that is no run is refused untouched
            call.hold(locks.folder_locked(output, run=True))
            if overwrite:
                Run(output).check_writable()
        except MlcliError as error:
            problem = error
    if processes.any(problem is not None):
        raise problem or RunError(f"{output}: cannot be worked in; the first process says why")
    run, options = inspect()
    processes.wait()  # all have inspected the folder before one writes to it
    runtime = Runtime.choose(device, options.get("precision", "fp32")).for_training()
    return processes, replace(runtime, device=processes.device), run, options


def open_run(call: Call[Any], output: Path, *, overwrite: bool, resume: bool) -> tuple[Run, dict[str, Any]]:
    """The run folder and the options in force, before any long work.

    With `resume` and a run in the folder, its options are in force, and what the command line says besides must
    agree (UsageError names what does not). Else UsageError where the folder holds anything and `overwrite` is off.
    """
    run = Run(output)
    command, given = call.name, call.config.as_json()
    if not (resume and run.exists()):
        try:
            run.check_free(overwrite)
        except RunError as error:  # of the command line, as an output that exists is in every command
            raise UsageError(str(error)) from None
        return run, given
    run.require_format()
    stored = run.load_config()
    if stored["command"] != command:
        raise UsageError(f"{output}: a run of `mlcli {stored['command']}`, not of `mlcli {command}`")
    try:
        options = checked(command, stored["options"])
    except Invalid as problem:
        raise RunError(f"{run.config_file}: cannot be read ({problem}); {CONFIG_ADVICE}") from None
    for key, value in given.items():
        if key not in call.given:
            options.setdefault(key, value)
            continue
        if key in options and listed(options[key]) == listed(value):
            continue
        if key in LENGTHS and _longer(value, options.get(key)):
            if options.get("schedule") != "constant":
                raise UsageError(_longer_run(command, output, key, options))
        elif key not in FREE and key not in LATER.get(command, ()) and options.get(key) != value:
            raise UsageError(
                f"{output}: was started with {key} {options.get(key)}, the command line says {value}; leave the option "
                "out to resume, or begin another run"
            )
        options[key] = value
    reading.settle(accept_truncated=bool(options.get("accept_truncated")), stretch=bool(options.get("stretch")))
    return run, options


def _longer(value: Any, before: Any) -> bool:
    return isinstance(value, int) and isinstance(before, int) and value > before


def _longer_run(command: str, output: Path, key: str, options: Mapping[str, Any]) -> str:
    """The message on a run that shall be longer, but whose learning rate depends on its first length."""
    schedule = f"its learning rate goes down over these ({options['schedule']})" if options.get("schedule") else (
        "what it computes depends on their number"
    )  # fmt: skip
    further = FURTHER.get(command)
    advice = f"to train further: {further.format(output)}" if further else "start a longer run with another -o"
    return f"{output}: was started with {key} {options.get(key)}, and {schedule}; {advice}"


def start(
    run: Run, command: str, options: Mapping[str, Any], data: Mapping[str, dict[str, Any]], *, resume: bool
) -> None:
    """Write the config of a new run, or check that a resumed one has the data it was started with."""
    if resume and run.exists():
        config = run.load_config()
        stored = config.get("data", {})
        for name in sorted((stored.keys() | data.keys()) - {*MEASURED}):
            then, now = stored.get(name, {}), data.get(name, {})
            if name == "model" and then.get("hash") != now.get("hash"):
                raise RunError(
                    f"{run.folder}: began with other weights of its model; bring them back, or begin another"
                )
            # the count too: an image that could not be read changes the order of all
            if (then.get("hash"), then.get("count")) != (now.get("hash"), now.get("count")):
                raise RunError(
                    f"{run.folder}: the {name} data have changed since the run began "
                    f"({counted(then.get('count', 0), 'image')} then, {now.get('count', 0)} now); bring them back to "
                    "resume, or begin another run"
                )
        said = {name: options[name] for name in (*LATER.get(command, ()), *LENGTHS) if name in options}
        grown = {**config, "options": config["options"] | said, "data": {**stored, **data}}
        if grown != config:
            grown.pop("finished", None)
            write_json(run.config_file, grown)
        return
    call = calls.current()
    typed = {"command_line": call.text} if call else {}
    run.create({"command": command, **typed, "options": dict(options), "data": dict(data)})


def finished(
    call: Call[Any], run: Run, options: Mapping[str, Any], processes: Processes, files: Sequence[Path] = ()
) -> dict[str, float] | None:
    """The last metrics of a resumed run that is finished, in which case the processes are closed; None for other runs.

    files: what the run writes besides its model and its report. Nothing is decoded: a run is finished if `finish` was
    called for the same options and for files that have the same names, sizes and times. Where only the times differ,
    the caller does its work as if the run were not finished, which compares the contents.
    """
    if not (call.config.resume and run.exists()):
        return None
    config = run.load_config()
    whole = all(os.path.exists(file) for file in (run.model_file, run.report_file, *files))
    same = all(config["options"].get(name, value) == value for name, value in options.items() if name not in FREE)
    if not (whole and same and "finished" in config):
        return None
    if config["finished"]["inputs"] != files_digest(options, run.folder):
        return None
    processes.close()
    return config["finished"]["metrics"]


def finish(
    run: Run, options: Mapping[str, Any], processes: Processes, metrics: Mapping[str, float] | None = None
) -> None:
    """Note in the config of a run that all is done, which `finished` reads, and close the processes."""
    inputs = files_digest(options, run.folder) if processes.main else None
    if inputs is not None:
        config, done = run.load_config(), {"inputs": inputs, "metrics": dict(metrics or {})}
        if config.get("finished") != done:
            write_json(run.config_file, config | {"finished": done})
    processes.close()


def plan(items: int, config: Supervised | Translation, options: Mapping[str, Any], **intervals: int) -> Plan:
    """How a training by epochs proceeds over so many items.  intervals: other fields of `Plan`."""
    return Plan(
        items,
        config.batch_size,
        config.epochs,
        config.seed,
        max_steps=options["steps"],
        save_every=options["save_every"],
        **intervals,
    )


def read_images(
    folder: ClassFolder,
    size: int,
    channels: int,
    config: Trains,
    prepare: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> ImageDataset:
    """Decode a labeled data set; broken files are named and left out.

    config: how many threads decode, and how much memory there is.  prepare: as in `ImageDataset.load`.
    """
    with Progress(len(folder.paths), f"reading {folder.root}") as bar:
        images = ImageDataset.load(
            folder.paths,
            folder.labels,
            size=size,
            channels=channels,
            workers=config.workers,
            budget_bytes=config.cache_bytes,
            progress=lambda done, total: bar.to(done),
            prepare=prepare,
        )
    for problem in images.problems:
        complain(f"{problem}; left out")
    if images.pixels is None:
        say_where_they_are(str(folder.root), images.packed, config)
    if not len(images):
        raise DataError(f"{folder.root}: no readable image in it")
    return images


def say_where_they_are(title: str, packed: PackedTensors | None, config: Trains) -> None:
    """Say that decoded images are not in memory. packed: what holds them on disk, if anything."""
    begin = f"{title}: the decoded images are more than --cache-memory {config.cache_memory:g} holds"
    if packed is None:
        say(f"{begin}, and than the disk of the cache has room for; each is decoded again whenever it is used")
    else:
        say(f"{begin}; {packed.bytes / 1e9:.3g} GB of them are on disk, in {packed.folder}, until this ends")


def read_training(
    training: ClassFolder,
    validation: ClassFolder | None,
    read: Callable[[ClassFolder], ImageDataset],
) -> tuple[ClassFolder, ClassFolder | None, ImageDataset]:
    """(training, validation, the training images): without the classes of which no image can be read, which are named.

    The model would have these classes without having been trained on them. Raises DataError where fewer than two are
    left.
    """
    images = read(training)
    counts = images.class_labels.bincount(minlength=len(training.classes)).tolist()
    if absent := {label for label, count in enumerate(counts) if not count}:
        for label in sorted(absent):
            complain(f"{training.root}: no image of {training.classes[label]!r} can be used; it is left out")
        good = set(images.paths)
        training = training.part(index for index, path in enumerate(training.paths) if path in good).without(absent)
        validation = validation and validation.without(absent)
        training.require_classes(2)
        images = read(training)
    return training, validation, images


def summary(folder: ClassFolder, images: ImageDataset) -> dict[str, Any]:
    """What config.json says of a data set."""
    low, high = (int(v) for v in images.batch(torch.arange(min(len(images), 256))).aminmax())
    return {
        "root": str(folder.root),
        "count": len(images),
        "left_out": len(images.problems),
        "classes": len(folder.classes),
        "size": images.size,
        "channels": images.channels,
        "value_range": [low, high],
        "hash": sha256((folder.digest() + images.digest()).encode()).hexdigest(),
    }


def fit(
    run: Run,
    method: Method,
    plan: Plan,
    processes: Processes,
    *,
    curves: Curves | None = None,
) -> dict[str, float]:
    """Train with a bar or log lines on stderr; write the report; returns the last figures.

    The report is written at the end, after an interruption, and in between after as many epochs as keep it to a
    twentieth of the time; not in the first seconds, since the first one takes longest.
    """
    due_at = time.monotonic() + FIRST_REPORT
    with Progress(plan.steps, str(run.folder)) as bar:
        bar.line(f"{run.folder}: {counted(plan.steps, 'step')}, {plan.steps_per_epoch:,} an epoch")

        def show(event: loop.Progress) -> None:
            nonlocal due_at
            note = "  ".join(f"{name} {value:.4g}" for name, value in event.values.items())
            if event.event == "warning":
                bar.line(f"{run.folder}: {event.note}")
            if event.event == "resumed":
                bar.resumed(event.step)
                bar.line(f"{run.folder}: resumed after step {event.step}")
            bar.to(event.step, f"epoch {event.epoch}  {note}" if note else "", always=event.event == "epoch")
            due = event.step == plan.steps or time.monotonic() >= due_at
            if processes.main and event.event == "epoch" and due:
                began = time.monotonic()
                run_reports.write(run)
                due_at = time.monotonic() + 20 * (time.monotonic() - began)
            if curves and event.values and event.event in ("step", "epoch") and processes.main:
                curves.add(event.step, event.values)

        try:
            return loop.fit(method, plan, run, processes, report=show)
        except Interrupted as error:
            if processes.main:
                run_reports.write(run)
            again = resume_command() if processes.count == 1 else "the same command, with --resume"
            raise Interrupted(f"{error}. Resume with: {again}", error.signal_number) from None


@contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """Says how to resume work other than training after an interruption; what is finished has been written."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(f"{run.folder}: interrupted; what is computed is kept. Resume with: {resume_command()}")
        raise


def held_fraction(val: str) -> float:
    """The fraction of the training set to hold out that --val names. Raises UsageError unless it is one."""
    try:
        fraction = float(val)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:
        raise UsageError(f"--val {val}: no such folder, and no fraction between 0 and 1")
    return fraction


def with_validation(
    training: ClassFolder, val: str | None, seed: int, *, keep_single: bool = False
) -> tuple[ClassFolder, ClassFolder | None]:
    """(training, validation) for --val, which names a labeled folder or the fraction of the training set to hold out.

    keep_single: a class of one image stays with the training set, and is no error.
    """
    if val is None:
        return training, None
    if class_images.is_labeled(val):
        return training, class_folder(val, training.classes, learns=False)
    return training.split(held_fraction(val), seed, keep_single=keep_single)

"""`mlcli adapt`"""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import complain, csv_text, out, say
from mlcli.commands._translation import Generator
from mlcli.methods.adaptation import METHODS

Method = StrEnum("Method", {name: name for name in METHODS})
Task = StrEnum("Task", {"classify": "classify", "segment": "segment"})
Select = StrEnum("Select", {"im": "im", "snd": "snd", "entropy": "entropy", "last": "last"})
Stage = StrEnum("Stage", {"pixel": "pixel", "feature": "feature", "both": "both"})
Judge = StrEnum("Judge", {"features": "features", "logits": "logits"})
METHOD_HELP = "; ".join(f"{name}: {entry.words}" for name, entry in METHODS.items()) + "."


@option.reads_images
def run(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Labeled: class folders, or images/ and masks/.", show_default=False)],
    target: Annotated[
        Path, typer.Argument(help="Images of the other domain; labels are not read.", show_default=False)
    ],
    output: option.RunFolder,
    method: Annotated[Method, typer.Option("--method", help=METHOD_HELP, show_default=False)],
    test: Annotated[
        Path | None, typer.Option("--test", help="Labeled images of the target, for the final table alone.")
    ] = None,
    task: Annotated[Task, typer.Option("--task", help="What the labels are.")] = Task.classify,
    target_labels: Annotated[
        bool,
        typer.Option("--target-labels", help="TARGET is labeled as SOURCE: train on that too, to compare with."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="lenet (default), digits, cifarnet, or an architecture of torchvision or timm, from scratch; with "
            "--pretrained a model or the folder of a run, default efficientnet_lite0.",
        ),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Networks begin from the weights of --model, with a new last layer."),
    ] = False,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Begin from this file of weights of --model; as --pretrained.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=16,
            help="Side in pixels; default that of the larger domain's images, at most 64, 224 for networks of "
            "torchvision and timm; with --pretrained from 64 to what the model has learned on.",
        ),
    ] = None,
    gray: Annotated[bool, typer.Option("--gray", help="One channel, also where images have colors.")] = False,
    max_source: Annotated[
        int | None, typer.Option("--max-source", min=2, help="So many source images, drawn by the seed.")
    ] = None,
    max_target: Annotated[
        int | None, typer.Option("--max-target", min=2, help="So many target images, drawn by the seed.")
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            min=0,
            max=1,
            help="Share of SOURCE that nothing is learned from; the table has source only on it.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs, each with the next seed.")] = 1,
    select: Annotated[
        Select | None,
        typer.Option(
            "--select",
            help="What chooses the moment, without labels: im, snd, entropy or last; default im, of masks last.",
        ),
    ] = None,
    source_steps: Annotated[
        int | None, typer.Option("--source-steps", min=1, help="Of each training with labels.")
    ] = None,
    source_batch_size: Annotated[
        int | None, typer.Option("--source-batch-size", min=1, help="Of each training with labels.")
    ] = None,
    source_lr: Annotated[float | None, typer.Option("--source-lr", min=0, help="Of each training with labels.")] = None,
    shift: Annotated[
        int | None,
        typer.Option(
            "--shift", min=0, help="Images are moved by up to so many pixels, with labels and in ADDA's stage."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Of the adaptation.")] = None,
    candidates: Annotated[
        int | None, typer.Option("--candidates", min=1, help="Moments to choose the result from.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Of either domain.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, help="Of the adaptation.")] = None,
    judge: Annotated[Judge | None, typer.Option("--judge", help="adda: what the discriminator looks at.")] = None,
    lead: Annotated[
        float | None,
        typer.Option(
            "--lead", min=0, max=1, help="adda: how often the discriminator must be right, or it alone learns."
        ),
    ] = None,
    regularization: Annotated[
        float | None, typer.Option("--regularization", min=0, help="simgan: weight of staying like the source image.")
    ] = None,
    history: Annotated[
        int | None, typer.Option("--history", min=0, help="simgan: earlier refined images that are kept; 0 for none.")
    ] = None,
    stage: Annotated[
        Stage | None, typer.Option("--stage", help="cycada: pixel, feature, or both (default), one after the other.")
    ] = None,
    pixel_steps: Annotated[int | None, typer.Option("--pixel-steps", min=1, help="cycada: of the pixel stage.")] = None,
    pixel_lr: Annotated[float | None, typer.Option("--pixel-lr", min=0, help="cycada: of the pixel stage.")] = None,
    cycle: Annotated[
        float | None, typer.Option("--cycle", min=0, help="cycada, seuda: weight of the way there and back.")
    ] = None,
    semantic: Annotated[
        float | None, typer.Option("--semantic", min=0, help="cycada, seuda: weight of what the source model sees.")
    ] = None,
    generator: Annotated[
        Generator | None,
        typer.Option("--generator", help="cycada, seuda: default unet, or resnet-6 where --size is no multiple of 8."),
    ] = None,
    filters: Annotated[int | None, typer.Option("--filters", min=1, help="Channels of the generator.")] = None,
    format: option.FormatOption = option.Format.table,
    seed: option.Seed = 0,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    save_every: option.SaveEvery = 60,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Carry a model from a labeled domain to one without labels.

    Labels of TARGET are never used, neither to train nor to choose; those of --test are read for the final table alone.
    That has source only, adapted and, with --target-labels, trained on target side by side: mean and spread over
    --seeds, intervals, a test of the difference, each class. RUN holds the adapted model of the first seed, for
    `mlcli classify --model RUN`; a generator, where the method has one, for `mlcli translate RUN`; and each stage of
    each seed as a run folder of its own.
    """
    import importlib

    from mlcli.commands import _adaptation as shared
    from mlcli.commands import _training
    from mlcli.errors import UsageError
    from mlcli.io.files import json_text
    from mlcli.methods.adaptation import domain_checks, results
    from mlcli.methods.adaptation import supervised_stage as supervised_stage
    from mlcli.models.pretrained import known as known_model
    from mlcli.reporting import report

    processes, runtime, folder, options = _training.begin("adapt", context)
    if resume and folder.exists():  # those that are there already stay in the table
        options["seeds"] = max(options["seeds"], folder.load_config()["options"]["seeds"])
    entry, config = METHODS[options["method"]], shared.config(options)
    if options["task"] not in entry.tasks:
        raise UsageError(f"--task {options['task']}: --method {options['method']} does {' and '.join(entry.tasks)}")
    for name in ("generator", "pixel_steps", "pixel_lr") if options["stage"] == "feature" else ():
        if context.get_parameter_source(name).name != "DEFAULT":
            raise UsageError(f"--{name.replace('_', '-')}: is of the pixel stage; leave it or --stage feature out")
    model = known_model(config.model, config.weights) if config.pretrained else None
    if model:
        runtime = runtime.for_training_of(model.network, options["precision"])
    data = shared.read(options, config, model, workers=workers, processes=processes, quiet=quiet)

    def setting(number: int):
        return shared.setting(folder, data, config, options, number, runtime, processes, save_every, quiet)

    setting(0).require_networks()
    if processes.main:
        began = {"model": {"count": 1, "hash": model.hash}} if model else {}
        _training.start(folder, "adapt", options | asdict(config), data.summary() | began, resume=resume)
    processes.wait()
    disagreements = domain_checks.disagreements(*data.native)
    for words in disagreements if processes.main else ():
        complain(words)

    method = importlib.import_module(f"mlcli.methods.adaptation.{entry.module}")
    trials, result = [], folder.results()
    measured_on = {"seeds": options["seeds"], "test": data.summary().get("test", {}).get("hash")}
    done = result.get("measured_on") == measured_on
    with _training.interruptible(folder, quiet):
        for number in range(0 if done else options["seeds"]):
            given = setting(number)
            adapted = method.adapt(given)
            known = None
            if data.labeled_target:
                known = supervised_stage.train(given, "target", shared.drawn(data.labeled_target, options, number))
            trials.append(results.measure(given, adapted, data.test, known))
            if number == 0 and processes.main:
                shared.save(folder, adapted, options["method"])
    if processes.main:
        if not done:
            result = {"method": options["method"], "task": options["task"]}
            result |= results.result(trials, options["task"], data.classes, data.test)
            result |= {"measured_on": measured_on, "guards": disagreements + result["guards"]}
            shared.write_images(folder, trials[0].images)
            folder.save_results(result)  # last: says that all else is there
        report.write(folder, shared.report_tables(result))  # of a run that was killed between the two, too
        for words in result["guards"][len(disagreements) :]:
            complain(words)
        told = {"json": json_text, "csv": lambda each: csv_text(*shared.figures(each))}
        out(told.get(format, shared.text)(result))
        say(f"{folder.folder}: done", quiet)
    processes.close()

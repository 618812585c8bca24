"""`mlcli adapt`"""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._method_options import with_method_options
from mlcli.commands._report import complain, csv_text, out, say
from mlcli.methods.adaptation.registry import METHODS

Method = StrEnum("Method", {name: name for name in METHODS})
Task = StrEnum("Task", {"classify": "classify", "segment": "segment"})
SUMMARIES = "; ".join(f"{name}: {method.summary}" for name, method in METHODS.items())
METHOD_HELP = f"Method of adaptation. {SUMMARIES}."


@with_method_options
@option.reads_images
def run(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(help="Labeled images of the source: class folders, or images/ and masks/.", show_default=False),
    ],
    target: Annotated[
        Path, typer.Argument(help="Images of the target domain; labels are not read.", show_default=False)
    ],
    output: option.RunFolder,
    method: Annotated[Method, typer.Option("--method", help=METHOD_HELP, show_default=False)],
    test: Annotated[
        Path | None, typer.Option("--test", help="Labeled images of the target, read for the final table alone.")
    ] = None,
    task: Annotated[
        Task, typer.Option("--task", help="Kind of the labels: classes of images (classify) or masks (segment).")
    ] = Task.classify,
    target_labels: Annotated[
        bool,
        typer.Option(
            "--target-labels", help="Train on the labels of TARGET as well, as an upper bound to compare with."
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Network: lenet (default), digits, cifarnet, or an architecture of torchvision or timm, from scratch; "
            "with --pretrained a model or the folder of a run, default efficientnet_lite0.",
        ),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained", help="Start from the weights of --model, with a new last layer."),
    ] = False,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="File of weights of --model to start from; implies --pretrained.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size",
            min=16,
            help="Side of the images in pixels; default that of the larger domain's images, at most 64, or 224 for "
            "networks of torchvision and timm; with --pretrained from 64 to what the model was trained on.",
        ),
    ] = None,
    gray: Annotated[bool, typer.Option("--gray", help="Convert color images to one gray channel.")] = False,
    max_source: Annotated[
        int | None,
        typer.Option("--max-source", min=2, help="Number of source images to use, drawn by the seed; default all."),
    ] = None,
    max_target: Annotated[
        int | None,
        typer.Option("--max-target", min=2, help="Number of target images to use, drawn by the seed; default all."),
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            min=0,
            max=1,
            help="Fraction of SOURCE kept out of training, on which the table has the source model; default none.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of runs, each with the next seed.")] = 1,
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
    from mlcli.api import runs
    from mlcli.commands import _adaptation as shared
    from mlcli.errors import UsageError
    from mlcli.io.files import json_text
    from mlcli.methods.adaptation import domain_checks, results, supervised_stage
    from mlcli.methods.adaptation.context import AdaptationContext
    from mlcli.models.pretrained import known as known_model
    from mlcli.reporting import report

    processes, runtime, folder, options = runs.begin(call_of(context))
    if resume and folder.exists():  # seeds that are there already stay in the table
        options["seeds"] = max(options["seeds"], folder.load_config()["options"]["seeds"])
    chosen, config = METHODS[options["method"]], shared.config(options)
    if options["task"] not in chosen.tasks:
        raise UsageError(f"--task {options['task']}: --method {options['method']} does {' and '.join(chosen.tasks)}")
    for name in ("generator", "pixel_steps", "pixel_lr") if options.get("stage") == "feature" else ():
        if context.get_parameter_source(name).name != "DEFAULT":
            raise UsageError(f"--{name.replace('_', '-')}: is of the pixel stage; leave it or --stage feature out")
    model = known_model(config.model, config.weights) if config.pretrained else None
    if model:
        runtime = runtime.for_training_of(model.network, options["precision"])
    data = shared.read(options, config, model, workers=workers, processes=processes, quiet=quiet)

    def context_of(number: int) -> AdaptationContext:
        return shared.context_of(folder, data, config, options, number, runtime, processes, save_every, quiet)

    context_of(0).require_networks()
    if processes.main:
        began = {"model": {"count": 1, "hash": model.hash}} if model else {}
        runs.start(folder, "adapt", options | asdict(config), data.summary() | began, resume=resume)
    processes.wait()
    disagreements = domain_checks.disagreements(*data.native)
    for words in disagreements if processes.main else ():
        complain(words)

    seeds, result = [], folder.results()
    measured_on = {"seeds": options["seeds"], "test": data.summary().get("test", {}).get("hash")}
    done = result.get("measured_on") == measured_on
    with runs.interruptible(folder):
        for number in range(0 if done else options["seeds"]):
            given = context_of(number)
            adapted = chosen.adapt(given)
            supervised = None
            if data.labeled_target:
                labeled = shared.drawn(data.labeled_target, options, number)
                supervised = supervised_stage.train(given, "target", labeled)
            seeds.append(results.measure(given, adapted, data.test, supervised))
            if number == 0 and processes.main:
                shared.save(folder, adapted, options["method"])
    if processes.main:
        if not done:
            result = {"method": options["method"], "task": options["task"]}
            result |= results.result(seeds, options["task"], data.classes, data.test)
            result |= {"measured_on": measured_on, "guards": disagreements + result["guards"]}
            shared.write_images(folder, seeds[0].images)
            folder.save_results(result)  # last: it says that everything else is there
        report.write(folder, shared.report_tables(result))  # also of a run that was killed between the two
        for words in result["guards"][len(disagreements) :]:
            complain(words)
        printed = {"json": json_text, "csv": lambda each: csv_text(*shared.figures(each))}
        out(printed.get(format, shared.text)(result))
        say(f"{folder.folder}: done", quiet)
    processes.close()

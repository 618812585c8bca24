"""`mlcli classify`"""

from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands import _pictures
from mlcli.commands._report import Progress, csv_text, table
from mlcli.engine.files import json_text


def run(
    images: option.Images,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many classes to name.")] = 5,
    model: option.Model = "cifarnet",
    weights: option.Weights = None,
    evaluate: Annotated[
        bool,
        typer.Option("--evaluate", help="IMAGES is a folder of class folders: report how often the model is right."),
    ] = False,
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    batch_size: option.BatchSize = 32,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Name what pictures show.

    Prints the most probable classes of each picture. Pictures that cannot be read are named and the rest goes on;
    the exit status is then 1.
    """
    from mlcli.commands._result import Result
    from mlcli.engine import models
    from mlcli.engine.runtime import Runtime

    result = Result(output, overwrite)
    runtime = Runtime.choose(device, precision)
    chosen = models.load(model, weights).to(runtime)
    if evaluate:
        failures = _evaluate(images, chosen, runtime, result, format, batch_size, workers, quiet)
    else:
        paths, failures = _pictures.named(images)
        failures += _classify(paths, chosen, runtime, result, format, top_k, batch_size, workers, quiet)
    if failures:
        raise typer.Exit(1)


def _classify(paths, model, runtime, result, format, top_k, batch_size, workers, quiet) -> int:
    """Print the predictions; the number of pictures that failed."""
    from mlcli.errors import ImageError
    from mlcli.methods.classification import probabilities

    entries = []
    with Progress(len(paths), "classify", quiet=quiet) as bar:
        answers = probabilities(model, paths, runtime, batch_size=batch_size, workers=workers)
        for done, (path, answer) in enumerate(answers, 1):
            if isinstance(answer, ImageError):
                bar.complain(answer)
                entries.append({"image": str(path), "error": str(answer)})
            else:
                best = answer.topk(min(top_k, len(answer)))
                predictions = [
                    {"label": model.classes[index], "index": index, "probability": probability}
                    for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
                ]
                entries.append({"image": str(path), "predictions": predictions})
            bar.to(done)
    good = [entry for entry in entries if "error" not in entry]
    if format == "json":
        result.write(json_text(entries))
    elif format == "csv":
        header = ("image", "rank", "label", "index", "probability", "error")
        rows = [(e["image"], r, *p.values(), "") for e in good for r, p in enumerate(e["predictions"], 1)]
        rows += [(e["image"], "", "", "", "", e["error"]) for e in entries if "error" in e]
        result.write(csv_text(header, rows))
    else:
        rows = [
            (e["image"] if rank == 0 else "", p["label"], f"{p['probability']:7.2%}")
            for e in good
            for rank, p in enumerate(e["predictions"])
        ]
        result.write(table(("image", "class", "probability"), rows, right=(2,)) if rows else "")
    return len(entries) - len(good)


def _evaluate(images, model, runtime, result, format, batch_size, workers, quiet) -> int:
    """Print how often the model is right; the number of pictures that failed."""
    from mlcli.engine.folders import ClassFolder
    from mlcli.errors import DataError, ImageError, UsageError
    from mlcli.methods import classification

    if len(images) != 1:
        raise UsageError("--evaluate takes one folder, with one folder of pictures for each class")
    folder = ClassFolder.open(images[0], model.classes)
    failures = 0

    def answers(bar: Progress):
        nonlocal failures
        rows = classification.probabilities(model, folder.paths, runtime, batch_size=batch_size, workers=workers)
        for done, (label, (_, answer)) in enumerate(zip(folder.labels, rows, strict=True), 1):
            bar.to(done)
            if isinstance(answer, ImageError):
                failures += 1
                bar.complain(answer)
            else:
                yield label, answer

    with Progress(len(folder.paths), "evaluate", quiet=quiet) as bar:
        evaluation = classification.evaluate(model.classes, answers(bar))
    if not evaluation.count:
        raise DataError(f"{folder.root}: no readable picture in it")
    report = {"model": model.name, **evaluation.as_json()}
    if format == "json":
        result.write(json_text(report))
    elif format == "csv":
        rows = [(name, *entry.values()) for name, entry in report["per_class"].items()]
        result.write(csv_text(("class", "accuracy", "count"), rows))
    else:
        result.write(evaluation_text(report, evaluation))
    return failures


def evaluation_text(report: dict, evaluation) -> str:
    """Accuracy, the per-class table and, for up to 20 classes, the confusion matrix."""
    low, high = report["interval"]
    text = (
        f"accuracy {report['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"top-5 {report['top5_accuracy']:.2%}, {report['count']} pictures\n\n"
    )
    rows = [(name, f"{entry['accuracy']:.2%}", entry["count"]) for name, entry in report["per_class"].items()]
    text += table(("class", "accuracy", "pictures"), rows, right=(1, 2))
    if len(evaluation.classes) <= 20:
        header = ("is \\ called", *evaluation.classes)
        rows = [(name, *row) for name, row in zip(evaluation.classes, evaluation.confusion, strict=True)]
        text += "\n" + table(header, rows, right=range(1, len(header)))
    return text

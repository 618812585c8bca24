"""`mlcli classify`"""

from functools import partial
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands import _pictures
from mlcli.commands._report import Progress, csv_text, table
from mlcli.engine.files import json_text


def run(
    images: option.Images,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many classes to name.")] = 5,
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    classes: option.Classes = None,
    evaluate: Annotated[
        bool,
        typer.Option("--evaluate", help="IMAGES is a folder of class folders: report how often the model is right."),
    ] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Answer by a picture and its mirror image: a little surer, twice the time.")
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
    from mlcli.methods.classification import probabilities

    result = Result(output, overwrite)
    runtime = Runtime.choose(device, precision)
    chosen = models.load(model, weights, classes=classes).to(runtime)
    answer = partial(probabilities, chosen, runtime=runtime, mirrored=mirror, batch_size=batch_size, workers=workers)
    if evaluate:
        failures = _evaluate(images, chosen, answer, mirror, result, format, quiet)
    else:
        paths, failures = _pictures.named(images)
        failures += _classify(paths, chosen, answer, result, format, top_k, quiet)
    if failures:
        raise typer.Exit(1)


def _classify(paths, model, answer, result, format, top_k, quiet) -> int:
    """Print the predictions; the number of pictures that failed."""
    from mlcli.errors import ImageError

    entries = []
    with Progress(len(paths), "classify", quiet=quiet) as bar:
        for done, (path, row) in enumerate(answer(paths), 1):
            if isinstance(row, ImageError):
                bar.complain(row)
                entries.append({"image": str(path), "error": str(row)})
            else:
                best = row.topk(min(top_k, len(row)))
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


def _evaluate(images, model, answer, mirrored, result, format, quiet) -> int:
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
        for done, (label, (_, row)) in enumerate(zip(folder.labels, answer(folder.paths), strict=True), 1):
            bar.to(done)
            if isinstance(row, ImageError):
                failures += 1
                bar.complain(row)
            else:
                yield label, row

    with Progress(len(folder.paths), "evaluate", quiet=quiet) as bar:
        evaluation = classification.evaluate(model.classes, answers(bar))
    if not evaluation.count:
        raise DataError(f"{folder.root}: no readable picture in it")
    report = {"model": model.name, "mirrored": mirrored, **evaluation.as_json()}
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

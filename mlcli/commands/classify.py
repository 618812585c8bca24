"""`mlcli classify`"""

from functools import partial
from typing import Annotated

import typer

from mlcli.commands import _images
from mlcli.commands import _options as option
from mlcli.commands._report import Progress, csv_text, table
from mlcli.io.files import json_text

FEW = 20  # classes, up to which they are named below the answers, and their confusions are a table


@option.reads_images
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
        bool, typer.Option("--mirror", help="Answer by an image and its mirror image: a little surer, twice the time.")
    ] = False,
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    batch_size: option.BatchSize = 32,
    device: option.Device = "auto",
    precision: option.ExactPrecision = option.Precision.fp32,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Name what images show.

    Prints the most probable classes of each image. The default model knows the 1,000 classes of ImageNet, whose WordNet
    ids JSON and CSV give beside their names. With --evaluate the folders of IMAGES may be named by label, WordNet id,
    synonym or number of a class. Images that cannot be read are named, the others are classified, and the exit status
    is 1.
    """
    from mlcli.commands._result import Result
    from mlcli.methods.evaluation.classification import probabilities
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime

    result = Result(output, overwrite)
    runtime = Runtime.choose(device, precision)
    chosen = registry.load(model, weights, classes=classes).to(runtime)
    chosen.require_classes()
    answer = partial(probabilities, chosen, runtime=runtime, mirrored=mirror, batch_size=batch_size, workers=workers)
    if evaluate:
        failures = _evaluate(images, chosen, answer, mirror, result, format, quiet)
    else:
        paths, failures = _images.named(images)
        failures += _classify(paths, chosen, answer, result, format, top_k, quiet)
    if failures:
        raise typer.Exit(1)


def _classify(paths, model, answer, result, format, top_k, quiet) -> int:
    """Print the predictions; the number of images that failed."""
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
                    {
                        "label": model.classes[index],
                        **({"wnid": model.wnids[index]} if model.wnids else {}),
                        "index": index,
                        "probability": probability,
                    }
                    for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
                ]
                entries.append({"image": str(path), "predictions": predictions})
            bar.to(done)
    good = [entry for entry in entries if "error" not in entry]
    if format == "json":
        result.write(json_text(entries))
    elif format == "csv":
        answer = ("label", "wnid", "index", "probability")
        header = ("image", "rank", *answer, "error")
        rows = [
            (e["image"], rank, *(p.get(name, "") for name in answer), "")
            for e in good
            for rank, p in enumerate(e["predictions"], 1)
        ]
        rows += [(e["image"], "", *("" for _ in answer), e["error"]) for e in entries if "error" in e]
        result.write(csv_text(header, rows))
    else:
        rows = [
            (e["image"] if rank == 0 else "", p["label"], f"{p['probability']:7.2%}")
            for e in good
            for rank, p in enumerate(e["predictions"])
        ]
        result.write(table(("image", "class", "probability"), rows, right=(2,)) + _footnote(model) if rows else "")
    return len(entries) - len(good)


def _footnote(model) -> str:
    """That a model of few classes gives one of their names to whatever an image shows."""
    if len(model.classes) > FEW:
        return ""
    return f"{model.name} knows {len(model.classes)} classes and no others: {', '.join(model.classes)}.\n"


def _evaluate(images, model, answer, mirrored, result, format, quiet) -> int:
    """Print how often the model is right; the number of images that failed."""
    from mlcli.errors import DataError, ImageError, UsageError
    from mlcli.methods.evaluation import classification

    if len(images) != 1:
        raise UsageError("--evaluate takes one folder, with one folder of images for each class")
    folder = _images.class_folder(images[0], model.names, learns=False)
    failures = sum(isinstance(problem, ImageError) for problem in folder.problems)

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
        raise DataError(f"{folder.root}: no readable image in it")
    report = {"model": model.name, "mirrored": mirrored, **evaluation.as_json()}
    for label, wnid in zip(model.classes, model.wnids, strict=False):
        if label in report["per_class"]:
            report["per_class"][label] = {"wnid": wnid, **report["per_class"][label]}
    if format == "json":
        result.write(json_text(report))
    elif format == "csv":
        columns = ("wnid", "accuracy", "count")
        rows = [(name, *(entry.get(c, "") for c in columns)) for name, entry in report["per_class"].items()]
        result.write(csv_text(("class", *columns), rows))
    else:
        result.write(evaluation_text(report, evaluation))
    return failures


def evaluation_text(report: dict, evaluation) -> str:
    """Accuracy, the per-class table and, for up to FEW classes, the confusion matrix."""
    low, high = report["interval"]
    text = (
        f"accuracy {report['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"top-5 {report['top5_accuracy']:.2%}, {report['count']} images\n\n"
    )
    rows = [(name, f"{entry['accuracy']:.2%}", entry["count"]) for name, entry in report["per_class"].items()]
    text += table(("class", "accuracy", "images"), rows, right=(1, 2))
    if len(evaluation.classes) <= FEW:
        header = ("true \\ predicted", *evaluation.classes)
        rows = [(name, *row) for name, row in zip(evaluation.classes, evaluation.confusion, strict=True)]
        text += "\n" + table(header, rows, right=range(1, len(header)))
    return text

"""`mlcli classify`"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from mlcli.api.call import Call
from mlcli.api.classify import ClassifyConfig, classify
from mlcli.api.row_stream import streams
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, out_bytes, table
from mlcli.commands._result import Result
from mlcli.counting import counted
from mlcli.io.files import json_text

if TYPE_CHECKING:
    from mlcli.api.classify import Classification
    from mlcli.methods.evaluation.classification import Evaluation
    from mlcli.models.model import Model

ANSWERED = ("unknown", "answered_accuracy")  # columns of an evaluation with --min-probability
FEW = 20  # classes, up to which they are named below the predictions, and their confusions are a table


@command(ClassifyConfig)
def run(
    call: Call[ClassifyConfig],
    quiet: option.Quiet = False,
) -> None:
    """Name what images show.

    Prints the most probable classes of each image. The default model knows the 1,000 classes of ImageNet, whose WordNet
    ids JSON and CSV give beside their names. With --min-probability, an image whose most probable class has less is
    called unknown. With --evaluate the folders of IMAGES may be named by label, WordNet id, synonym or number of a
    class; unknown images are counted, and the accuracy on the answered ones is given too. Images that cannot be read
    are named, the others are classified, and the exit status is 1.

    For very many images, --format jsonl, csv or parquet with -o FILE writes the predictions while they are computed, in
    memory that does not grow with their number; --resume resumes what was interrupted, and --shard divides the images
    among the jobs of a cluster.
    """
    config, call.write = call.config, out_bytes
    if streams(call) and not config.evaluate:
        result = call.run(classify)
    else:
        document = Result(config.output, config.overwrite)
        result = call.run(classify)
        if config.format == "json":
            document.write(json_text(result.as_json()))
        elif result.evaluation is None:
            document.write(_predictions_table(result))
        else:
            as_csv = config.format == "csv"
            document.write(_evaluation_csv(result) if as_csv else evaluation_text(result, result.evaluation))
    if result.failures:
        raise typer.Exit(1)


def _predictions_table(result: "Classification") -> str:
    rows = [
        (p.image if rank == 0 else "", label, f"{probability:7.2%}")
        for p in result.predictions
        for rank, (label, _, _, probability) in enumerate(p.answers)
    ]
    return table(("image", "class", "probability"), rows, right=(2,)) + _footnote(result.model) if rows else ""


def _footnote(model: "Model") -> str:
    """That a model of few classes gives one of their names to whatever an image shows."""
    if len(model.classes) > FEW:
        return ""
    return f"{model.name} knows {counted(len(model.classes), 'class')} and no others: {', '.join(model.classes)}.\n"


def _evaluation_csv(result: "Classification") -> str:
    report = result.as_json()
    columns = ("wnid", "accuracy", "count", *(ANSWERED if "unknown" in report else ()))
    per_class = report["per_class"]
    rows = [(name, *(entry.get(column, "") for column in columns)) for name, entry in per_class.items()]
    return csv_text(("class", *columns), rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _answered_text(report: Mapping[str, Any]) -> str:
    """How many images are unknown by --min-probability, and the accuracy on the others."""
    low, high = report["answered_interval"]
    answered = counted(report["count"] - report["unknown"], "answered image")
    accuracy = _percent(report["answered_accuracy"])
    accuracy = f", accuracy {accuracy} (95 % interval {low:.2%} to {high:.2%})" if accuracy else ""
    return f"{counted(report['unknown'], 'image')} unknown; {answered}{accuracy}\n\n"


def evaluation_text(result: "Classification", evaluation: "Evaluation") -> str:
    """Accuracy, the per-class table and, for up to FEW classes, the confusion matrix."""
    report = result.as_json()
    low, high = report["interval"]
    text = (
        f"accuracy {report['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%}), "
        f"top-5 {report['top5_accuracy']:.2%}, {counted(report['count'], 'image')}\n\n"
    )
    rows: list[tuple[Any, ...]] = [
        (name, f"{entry['accuracy']:.2%}", entry["count"]) for name, entry in report["per_class"].items()
    ]
    header: tuple[str, ...] = ("class", "accuracy", "images")
    if "unknown" in report:
        text += _answered_text(report)
        header += ("unknown", "accuracy of the answered")
        entries = report["per_class"].values()
        rows = [
            (*row, one["unknown"], _percent(one["answered_accuracy"])) for row, one in zip(rows, entries, strict=True)
        ]
    text += table(header, rows, right=range(1, len(header)))
    if len(evaluation.classes) <= FEW:
        header = ("true \\ predicted", *evaluation.classes)
        counts = [(name, *row) for name, row in zip(evaluation.classes, evaluation.confusion, strict=True)]
        text += "\n" + table(header, counts, right=range(1, len(header)))
    return text

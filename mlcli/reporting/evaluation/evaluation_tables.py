"""The evaluation of a classifier as tables: accuracies with their intervals, each class, and the confusion matrix."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlcli.counting import counted
from mlcli.reporting.sections import Table

MOST_CLASSES = 25  # of a confusion matrix; of more classes, the most frequent confusions are listed
MOST_CONFUSIONS = 25
MEASURES = (
    ("accuracy", "interval", "accuracy"),
    ("balanced_accuracy", "balanced_interval", "balanced accuracy (mean over the classes)"),
    ("top5_accuracy", "", "top-5 accuracy"),
)


def tables(evaluation: Mapping[str, Any], classes: Sequence[str]) -> list[Table]:
    """The tables of an evaluation, as `Evaluation.as_json` has it; what an earlier version did not write is left out.

    classes: the names of all classes, in the order of the confusion matrix.
    """
    found = [_accuracies(evaluation)]
    if per_class := evaluation.get("per_class"):
        rows = [(name, f"{each['accuracy']:.2%}", each["count"]) for name, each in per_class.items()]
        found.append(Table(("class", "accuracy", "images"), rows, "Each class"))
    confusion = evaluation.get("confusion")
    if confusion and len(confusion) == len(classes):
        found.append(_matrix(confusion, classes) if len(classes) <= MOST_CLASSES else _confusions(confusion, classes))
    return found


def interval(ends: Sequence[float]) -> str:
    """The ends of an interval of a fraction, in percent."""
    return f"{ends[0]:.1%} to {ends[1]:.1%}"


def _accuracies(evaluation: Mapping[str, Any]) -> Table:
    rows = [
        (words, f"{evaluation[name]:.2%}", interval(evaluation[ends]) if ends in evaluation else "")
        for name, ends, words in MEASURES
        if name in evaluation and not (name == "top5_accuracy" and len(evaluation.get("confusion", ())) <= 5)
    ]
    count = f"Measured on {counted(evaluation['count'], 'image')}." if "count" in evaluation else ""
    return Table(("", "value", "95 % interval"), rows, "", count)


def _matrix(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Table:
    strengths = [[count / max(1, sum(row)) for count in row] for row in confusion]
    rows = [(name, *(count or "" for count in row)) for name, row in zip(classes, confusion, strict=True)]
    caption = "Numbers of images: rows are true classes, columns predicted ones. The tint is the part of the row."
    return Table(("true \\ predicted", *classes), rows, "Confusion matrix", caption, strengths=strengths)


def _confusions(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Table:
    """The most frequent confusions, where the matrix would be too large to read."""
    cells = [
        (count, classes[true], classes[answer], sum(row))
        for true, row in enumerate(confusion)
        for answer, count in enumerate(row)
        if count and true != answer
    ]
    cells.sort(key=lambda cell: -cell[0])
    rows = [(true, answer, f"{count} of {total}") for count, true, answer, total in cells[:MOST_CONFUSIONS]]
    caption = f"The most frequent of the confusions between {counted(len(cells), 'pair')} of classes."
    return Table(("true class", "predicted class", "images"), rows, "Confusions", caption, rows_named=False)

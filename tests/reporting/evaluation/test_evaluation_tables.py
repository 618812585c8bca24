"""Evaluations as tables: rounded intervals, confusions with headings."""

from mlcli.methods.evaluation.classification import Evaluation
from mlcli.reporting.evaluation import evaluation_tables


def test_accuracies_classes_and_the_confusion_matrix():
    evaluation = Evaluation(("a", "b"), [[3, 1], [0, 4]], 8).as_json()
    accuracies, classes, matrix = evaluation_tables.tables(evaluation, ("a", "b"))
    assert accuracies.rows[0][:2] == ("accuracy", "87.50%") and accuracies.caption == "Measured on 8 images."
    low, high = evaluation["interval"]
    assert accuracies.rows[0][2] == f"{low:.1%} to {high:.1%}"
    assert [row[0] for row in accuracies.rows] == ["accuracy", "balanced accuracy (mean over the classes)"]
    assert classes.header == ("class", "accuracy", "images") and classes.rows[0] == ("a", "75.00%", 4)
    assert matrix.header == ("true \\ predicted", "a", "b") and matrix.rows == [("a", 3, 1), ("b", "", 4)]
    assert matrix.strengths == [[0.75, 0.25], [0, 1]] and "rows are true classes" in matrix.caption


def test_of_many_classes_the_most_frequent_confusions_are_listed():
    count = evaluation_tables.MOST_CLASSES + 1
    confusion = [[0] * count for _ in range(count)]
    confusion[0][1], confusion[2][0], confusion[3][3] = 2, 5, 9
    names = [f"c{number}" for number in range(count)]
    *_, confusions = evaluation_tables.tables(Evaluation(tuple(names), confusion, 16).as_json(), names)
    assert confusions.rows == [("c2", "c0", "5 of 5"), ("c0", "c1", "2 of 2")]
    assert confusions.caption == "The most frequent of the confusions between 2 pairs of classes."


def test_what_an_earlier_version_did_not_write_is_left_out():
    (table,) = evaluation_tables.tables({"accuracy": 0.5, "interval": [0.25, 0.75]}, ())
    assert table.rows == [("accuracy", "50.00%", "25.0% to 75.0%")]

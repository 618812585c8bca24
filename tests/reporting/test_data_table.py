"""Against tables written down by hand; the facts are as the commands write them to config.json."""

from mlcli.reporting import data_table


def test_data_sets_are_columns():
    table = data_table.table({"training": {"root": "a", "count": 3, "hash": "f" * 64}, "validation": {"root": "b"}})
    assert table.header == ("", "training", "validation")
    assert table.rows == [("root", "a", "b"), ("count", 3, ""), ("hash (its beginning)", "f" * 16, "")]


def test_pairs_of_images_are_in_words():
    specs = [{"channels": 1, "labels": 8}, {"channels": 3, "labels": 0}]
    facts = {
        "left_out": 0,
        "specs": specs,
        "size": [64, 32],
        "value_range_A": [0.0, 7.0],
        "value_range_B": [0.0, 255.0],
    }
    assert data_table.table({"training": facts}).rows == [
        ("left out", 0),
        ("channels of A", 1),
        ("label classes of A", 8),
        ("channels of B", 3),
        ("size", "64 × 32"),
        ("value range of A", "0 to 7"),
        ("value range of B", "0 to 255"),
    ]


def test_a_model_has_no_number_of_images():
    model = {"count": 1, "hash": "e" * 64, "addresses": {"conv3": "stages.2", "classifier": "fc"}}
    table = data_table.table({"training": {"count": 5, "size": 224, "value_range": [0, 9]}, "model": model})
    assert table.rows == [
        ("count", 5, ""),
        ("size", 224, ""),
        ("value range", "0 to 9", ""),
        ("hash (its beginning)", "", "e" * 16),
        ("addresses", "", "conv3: stages.2, classifier: fc"),
    ]
    assert len(data_table.table({"model": model | {"addresses": {}}}).rows) == 1

import csv
import io
import json

import pytest

from tests.cli import mlcli

KEYS = ["address", "alias", "kind", "shape", "receptive_field", "stride", "parameters"]


def test_json(colors):
    entries = json.loads(mlcli("layers", "--model", colors, "--format", "json").stdout)
    assert all(list(entry) == KEYS for entry in entries)
    by_alias = {entry["alias"]: entry for entry in entries if entry["alias"]}
    assert list(by_alias) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    first = by_alias["conv1"]
    assert (first["kind"], first["shape"][1:], first["receptive_field"], first["stride"]) == ("ReLU", [16, 16], 7, 1)
    last = entries[-1]
    assert last["shape"] == [3] and last["receptive_field"] is None and last["stride"] is None


def test_a_model_whose_weights_are_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entries = json.loads(mlcli("layers", "--model", "alexnet", "--format", "json").stdout)
    assert [entry["address"] for entry in entries if entry["alias"]][0] == "features.1"
    assert sum(entry["parameters"] for entry in entries) == 61_100_840
    assert not list(tmp_path.iterdir())


def test_table_and_csv_say_the_same(colors):
    rows = list(csv.DictReader(io.StringIO(mlcli("layers", "--model", colors, "--format", "csv").stdout)))
    sizes = ["shape_1", "shape_2", "shape_3"]
    assert [*rows[0]] == [name for key in KEYS for name in (sizes if key == "shape" else [key])]
    table = mlcli("layers", "--model", colors).stdout
    for row in rows:
        shape = " x ".join(filter(None, (row[size] for size in sizes)))
        words = " ".join([row["address"], row["alias"], row["kind"], shape, *list(row.values())[-3:]])
        assert any(line.split() == words.split() for line in table.splitlines()), row
    assert (rows[0]["shape_1"], rows[0]["shape_3"], rows[-1]["shape_1"]) == ("64", "16", "3")
    assert (rows[-1]["shape_2"], rows[-1]["receptive_field"], rows[-1]["stride"]) == ("", "all", "all")


def test_output(colors, tmp_path):
    mlcli("layers", "--model", colors, "-o", tmp_path / "layers.txt")
    assert "conv5" in (tmp_path / "layers.txt").read_text("utf-8")
    assert "--overwrite" in mlcli("layers", "--model", colors, "-o", tmp_path / "layers.txt", status=2).stderr


@pytest.mark.parametrize(
    "arguments, status, text", [(["--model", "alexnett"], 2, "alexnet"), (["--weights", "absent.pth"], 1, "absent.pth")]
)
def test_errors(arguments, status, text):
    assert text in mlcli("layers", *arguments, status=status).stderr

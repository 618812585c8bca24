import csv
import io
import json

from mlcli.engine import models
from mlcli.engine.weight_files import weights_path
from tests.cli import mlcli


def test_json(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = weights_path("vgg11")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    entries = json.loads(mlcli("models", "--format", "json").stdout)
    assert [entry["name"] for entry in entries] == models.names()
    assert [entry["name"] for entry in entries if entry["weights_on_disk"]] == ["cifarnet", "sobel", "vgg11"]
    assert all(entry["size"] >= 32 and entry["million_parameters"] > 0.9 for entry in entries if entry["classes"])


def test_table_and_csv():
    rows = list(csv.DictReader(io.StringIO(mlcli("models", "--format", "csv").stdout)))
    assert rows[0]["name"] == "cifarnet" and rows[0]["weights on disk"] == "yes" and rows[0]["imagenet top1"] == ""
    table = mlcli("models").stdout.splitlines()
    line = next(line.split() for line in table if line.split()[:1] == ["resnet50"])
    assert line[:4] == ["resnet50", "25.6", "224", "1000"]

import csv
import io
import json

from mlcli.models import catalog
from mlcli.models.sources.torchvision_models import weights_path
from tests.cli import mlcli


def test_json(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = weights_path("vgg11")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    entries = json.loads(mlcli("models", "--format", "json").stdout)
    assert [entry["name"] for entry in entries] == [n for n in catalog.nameable() if not n.startswith("timm/")]
    lites = [f"efficientnet_lite{number}" for number in range(3)]
    assert [entry["name"] for entry in entries if entry["weights_on_disk"]] == [*lites, "cifarnet", "sobel", "vgg11"]
    assert all(entry["size"] >= 32 and entry["million_parameters"] > 0.9 for entry in entries if entry["classes"])
    assert entries[0] == {
        "name": "efficientnet_lite0",
        "million_parameters": 4.7,
        "size": 224,
        "classes": 1000,
        "imagenet_top1": 75.1,
        "license": "Apache-2.0",
        "weights_on_disk": True,
    }


def test_timms_models_are_listed_by_pattern():
    entries = json.loads(mlcli("models", "timm/test_vit*", "--format", "json").stdout)
    assert {"timm/test_vit", "timm/test_vit2"} <= {entry["name"] for entry in entries}
    assert all(entry["name"].startswith("timm/test_vit") and entry["classes"] == 1000 for entry in entries)
    assert 'mlcli models "timm/*"' in mlcli("models").stderr
    assert "no model of such a name" in mlcli("models", "nonet*", status=2).stderr


def test_table_and_csv():
    rows = list(csv.DictReader(io.StringIO(mlcli("models", "--format", "csv").stdout)))
    cifarnet = next(row for row in rows if row["name"] == "cifarnet")
    assert cifarnet["weights_on_disk"] == "yes" and cifarnet["imagenet_top1"] == "" and cifarnet["license"] == "MIT"
    table = mlcli("models").stdout.splitlines()
    line = next(line.split() for line in table if line.split()[:1] == ["resnet50"])
    assert line[:4] == ["resnet50", "25.6", "224", "1000"]

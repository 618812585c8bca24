"""What a shell offers, and that it is what there is."""

import subprocess
import sys

import pytest

from mlcli.api import completion
from mlcli.models import catalog, registry
from mlcli.models.sources.builtin import ARCHITECTURES, BUILTIN
from mlcli.models.sources.lite import LITE
from mlcli.models.sources.timm_models import TIMM
from mlcli.models.sources.torchvision_models import TORCHVISION
from mlcli.models.structure.features import layers
from tests.cli import ENVIRONMENT


def offered(kind, begun="", **values):
    return completion.offered(kind, values, begun)


def test_the_models_are_those_of_the_catalog():
    assert [*completion.OFFLINE] == [*LITE.names(), *BUILTIN.names()]
    assert {*completion.UNTRAINED} == {name for name, known in ARCHITECTURES.items() if known.trainable}
    assert {*completion._registered("torchvision")} == {*TORCHVISION.names()}
    assert {*offered("model", "timm/")} == {*TIMM.names()}
    assert {*offered("model")} == {name for name in catalog.nameable() if not name.startswith("timm/")}


def test_names_that_are_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert offered("model", "resnet1") == ["resnet18", "resnet101", "resnet152"]
    assert offered("model", "cif") == offered("architecture", "cif") == ["cifarnet"]
    assert offered("architecture", "len") == ["lenet", "lenet-bn"] and offered("model", "len") == []
    assert offered("model", "ti")[0].startswith("timm/") and offered("model", "nosuch") == []


def test_runs_are_models_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/one", "runs/other", "runs/.hidden"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").touch()
    (tmp_path / "runs/empty").mkdir()
    assert offered("model", "ru") == ["runs/one", "runs/other"]
    assert offered("model", "runs/on") == ["runs/one"]
    assert offered("model", f"{tmp_path}/runs/oth") == [f"{tmp_path}/runs/other"]


def test_layers_are_aliases_or_else_addresses_of_the_model():
    aliases = ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert offered("layer") == offered("layer", "con") == aliases
    assert {*aliases} <= {layer.alias for layer in layers(registry.load("cifarnet"))}
    assert offered("layer", "conv2.0", model="cifarnet")[0] == "conv2.0.pool"
    assert offered("layer", "layer1.0", model="nosuch") == []


def test_devices(monkeypatch):
    monkeypatch.setattr(completion.os, "listdir", lambda folder: ["null", "nvidia0", "nvidia1", "nvidiactl"])
    assert offered("device", "c") == ["cpu", "cuda", "cuda:0", "cuda:1"]
    monkeypatch.setattr(completion.os, "listdir", lambda folder: ["null"])
    assert offered("device")[:2] == ["auto", "cpu"] and "cuda" not in offered("device")


def test_classes_of_a_run(colors, tmp_path):
    assert offered("class", run=colors) == ["blue", "green", "red"] and offered("class", "g", run=colors) == ["green"]
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    assert offered("class", run=tmp_path) == offered("class", run=tmp_path / "absent") == offered("class") == []


def test_no_torch_is_loaded_for_names_that_are_known_without():
    code = "import sys; from mlcli.api.completion import offered\n"
    code += "for kind, word in (('model', 'res'), ('model', 'timm/'), ('layer', ''), ('device', '')):\n"
    code += "    assert offered(kind, {}, word), kind\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("error", [OSError, ValueError, MemoryError])
def test_whatever_goes_wrong_nothing_is_offered(error, monkeypatch, capsys):
    def broken(*_):
        print("noise", file=sys.stderr)
        raise error

    monkeypatch.setitem(completion.OFFERS, "model", broken)
    assert offered("model", "c") == [] and capsys.readouterr() == ("", "")

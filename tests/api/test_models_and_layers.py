"""`mlcli.list_models`, `mlcli.layers` and `mlcli.doctor` as a notebook calls them, against what the commands print."""

import json

import pytest

from mlcli.api.doctor import doctor
from mlcli.api.layers import Layers, layers
from mlcli.api.list_models import list_models
from mlcli.errors import MlcliError, UsageError
from tests.cli import mlcli


def test_the_models_are_those_of_the_command():
    found = list_models("timm/test_*")
    assert found.as_json() == json.loads(mlcli("models", "timm/test_*", "--format", "json").stdout)
    assert found.unlisted == 0 and all(entry.classes == 1000 for entry in found.entries)
    whole = list_models()
    assert whole.unlisted > 100 and "cifarnet" in [entry.name for entry in whole.entries]
    with pytest.raises(UsageError, match="no model of such a name"):
        list_models("nonet*")


def test_the_layers_are_those_of_the_command(colors):
    result = layers(model=str(colors))
    assert result.as_json() == json.loads(mlcli("layers", "--model", colors, "--format", "json").stdout)
    first, last = result.layers[0], result.as_json()[-1]
    assert result.model.classes == ("blue", "green", "red") and first.shape[1:] == (16, 16)
    assert list(last) == list(Layers.KEYS) and last["receptive_field"] is None and last["shape"] == [3]
    with pytest.raises(MlcliError, match="alexnett"):
        layers(model="alexnett")


def test_the_findings_are_those_of_the_command():
    result = doctor(device="cpu", precision="fp32").as_json()
    printed = json.loads(mlcli("doctor", "--device", "cpu", "--precision", "fp32", "--format", "json").stdout)
    untimed = {name for name in result if not name.endswith("ms_per_image")}
    assert list(result) == list(printed) and all(result[name] == printed[name] for name in untimed)
    with pytest.raises(UsageError, match="precision fp8"):
        doctor(precision="fp8")

import json

import pytest
import torch

import mlcli as package
from mlcli.errors import WeightsError
from mlcli.models import registry
from mlcli.reporting import diagnosis
from tests.cli import mlcli


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Times are taken with few images."""
    monkeypatch.setattr(diagnosis, "BATCH", 2)


def test_json(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = json.loads(mlcli("doctor", "--device", "cpu", "--precision", "fp32", "--format", "json").stdout)
    assert found["mlcli"] == package.__version__ and found["torch"] == torch.__version__
    assert found["device"] == "cpu" and found["precision"] == "fp32" and found["threads"] == torch.get_num_threads()
    assert found["weights_folder"] == str(tmp_path / "hub" / "checkpoints")
    assert f"TORCH_HOME={tmp_path}" in found["environment"]
    assert found["cifarnet_hash"] == registry.load("cifarnet").hash[:16]
    assert 0 < found["cifarnet_ms_per_image"] < 1000 and 0 < found["efficientnet_lite0_ms_per_image"] < 10_000
    assert len(found["efficientnet_lite0_hash"]) == 16
    assert all(found[name] != "not installed" for name in diagnosis.PACKAGES)
    assert set(diagnosis.OPTIONAL) <= found.keys()


def test_every_dependency_is_reported():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(package.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    names = {dependency.split(">")[0] for dependency in project["dependencies"]}
    assert names == {*diagnosis.PACKAGES, "torch"}


def test_table():
    lines = [line.split() for line in mlcli("doctor", "--device", "cpu").stdout.splitlines()]
    assert ["mlcli", package.__version__] in lines and ["device", "cpu"] in lines


def test_broken_embedded_weights_do_not_stop_the_report(monkeypatch):
    def fail(name):
        raise WeightsError(f"{name}: cut off")

    monkeypatch.setattr(registry, "load", fail)
    found = json.loads(mlcli("doctor", "--device", "cpu", "--format", "json").stdout)
    assert found["cifarnet"] == "cifarnet: cut off" and found["torch"]
    assert found["efficientnet_lite0"] == "efficientnet_lite0: cut off"


@pytest.mark.parametrize("arguments", [["--device", "tpu"], ["--precision", "fp8"], ["surplus"]])
def test_errors(arguments):
    assert arguments[-1] in mlcli("doctor", *arguments, status=2).stderr


def test_csv_has_a_line_for_each_value(monkeypatch):
    found = {"threads": 2, "cuda_devices": [], "environment": ["A=1", "B=2, 3"]}
    monkeypatch.setattr(diagnosis, "diagnose", lambda runtime: found)
    said = mlcli("doctor", "--device", "cpu", "--format", "csv").stdout
    assert said.splitlines() == ["name,value", "threads,2", "environment,A=1", 'environment,"B=2, 3"']

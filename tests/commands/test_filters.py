import json

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.models import registry
from mlcli.training import run_folder
from tests.cli import mlcli


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["a", "b"], 16)
    run_folder.save_tensors(tmp_path / "run" / "model.safetensors", model.network.state_dict(), model.describe())
    return tmp_path / "run"


def test_the_first_layer_in_color(run, tmp_path):
    target = tmp_path / "filters.png"
    result = mlcli("filters", "--model", run, "-o", target)
    assert result.stdout == "" and "64 kernels of conv1.conv" in result.stderr
    pixels = np.asarray(Image.open(target))
    assert pixels.shape[0] > 8 * (56 + 2 * 15 + 6) + 6 and pixels.shape[1:] == (8 * (56 + 6) + 6, 3)
    assert (pixels.max(2) - pixels.min(2)).max() > 100  # color
    record = json.loads((tmp_path / "filters.png.json").read_text())
    assert record["command"] == "filters" and record["address"] == "conv1.conv" and len(record["structure"]) == 64
    assert len(record["scales"]) == 64 and min(record["scales"]) > 0
    assert record["options"] == {"model": str(run), "weights": None, "layer": "conv1", "size": 56}
    assert record["model_hash"] == registry.load(str(run)).hash
    first = target.read_bytes()
    mlcli("filters", "--model", run, "-o", target, "--overwrite", "-q")
    assert target.read_bytes() == first


@pytest.mark.parametrize(
    "layer, kernels", [("conv3:7", 128), ("conv3", 128), ("conv2.1.conv:127", 128), ("conv1:3", 3)]
)
def test_a_unit_of_a_deeper_layer_in_gray(run, tmp_path, layer, kernels):
    target = tmp_path / "unit.webp"
    result = mlcli("filters", "--model", run, "--layer", layer, "-o", target, "--size", 12)
    assert f"{kernels} kernels of" in result.stderr and f"unit {layer.partition(':')[2] or 0}" in result.stderr
    pixels = np.asarray(Image.open(target).convert("RGB")).astype(int)
    assert (pixels.max(2) - pixels.min(2)).max() < 8


@pytest.mark.parametrize("layer", ["conv1", "conv2:1", "features.1:3"])
def test_kernels_of_one_pixel_and_groups(tmp_path, monkeypatch, layer):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = registry.create("mobilenet_v2", [str(number) for number in range(1000)], 224)
    torch.save(network.network.state_dict(), tmp_path / "mobile.pth")
    arguments = ("--model", "mobilenet_v2", "--weights", tmp_path / "mobile.pth", "--layer", layer)
    mlcli("filters", *arguments, "-o", tmp_path / "out.png")
    assert Image.open(tmp_path / "out.png").size > (50, 50)


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--layer", "conv9"], "did you mean conv"),
        (["--layer", "classifier"], "has no kernels"),
        (["--layer", "conv2:128"], "has the units 0 to 127"),
        (["--layer", "conv1:64"], "has the units 0 to 63"),
        (["--layer", "conv2:x"], "a unit is a number"),
        (["--layer", ""], "no layer"),
        (["--size", "2"], "size"),
        (["-o", "image.gif"], "no format has this ending"),
        (["-o", "image"], "no format has this ending"),
    ],
)
def test_errors(run, tmp_path, arguments, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = mlcli("filters", "--model", run, "-o", "filters.png", *arguments, status=2)
    assert text in result.stderr and not list(tmp_path.glob("*.png*"))


def test_an_output_is_needed_and_not_replaced(run, tmp_path):
    assert "output" in mlcli("filters", status=2).stderr
    (tmp_path / "mine.png").write_bytes(b"mine")
    assert "--overwrite" in mlcli("filters", "--model", run, "-o", tmp_path / "mine.png", status=2).stderr
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_the_embedded_network_shows_structure(tmp_path):
    mlcli("filters", "-o", tmp_path / "filters.png")
    structure = json.loads((tmp_path / "filters.png.json").read_text())["structure"]
    assert sum(score > 0.3 for score in structure) >= 0.8 * len(structure)

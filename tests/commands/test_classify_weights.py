"""`mlcli classify --weights`"""

import json

import pytest
import torch
from PIL import Image

from mlcli.models import registry
from tests.cli import mlcli


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """SqueezeNet for three classes that always answers the second, as a training script saves it."""
    network = registry.create("squeezenet1_1", ["a", "b", "c"], 64).network
    with torch.no_grad():
        network.classifier[1].weight.zero_()
        network.classifier[1].bias.copy_(torch.tensor([0.0, 5.0, 1.0]))
    file = tmp_path_factory.mktemp("weights") / "checkpoint.pth.tar"
    state = {f"module.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "arch": "squeezenet1_1", "state_dict": state}, file)
    return file


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (20, 16), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def labels(*arguments):
    (entry,) = json.loads(mlcli("classify", *arguments, "--format", "json").stdout)
    return [prediction["label"] for prediction in entry["predictions"]]


def test_the_classes_of_a_checkpoint_have_the_names_of_a_file(checkpoint, image, tmp_path):
    (tmp_path / "names.txt").write_text("crow\nrobin\nwren\n")
    given = (image, "--model", "squeezenet1_1", "--weights", checkpoint)
    assert labels(*given, "--classes", tmp_path / "names.txt") == ["robin", "wren", "crow"]
    assert labels(*given) == ["1", "2", "0"]


def test_names_that_are_not_as_many_as_the_classes(checkpoint, image, tmp_path):
    (tmp_path / "names.txt").write_text("crow\nrobin\n")
    options = ("--model", "squeezenet1_1", "--weights", checkpoint, "--classes", tmp_path / "names.txt")
    result = mlcli("classify", image, *options, status=2)
    assert "names.txt: holds 2 names, the model has 3 classes" in " ".join(result.stderr.split())


def test_weights_without_a_last_layer_do_not_classify(image, tmp_path):
    state = registry.create("squeezenet1_1", ["a", "b"], 64).network.state_dict()
    torch.save({key: t for key, t in state.items() if not key.startswith("classifier")}, tmp_path / "backbone.pth")
    given = ("--model", "squeezenet1_1", "--weights", tmp_path / "backbone.pth")
    result = mlcli("classify", image, *given, status=2)
    assert "knows no classes" in result.stderr
    assert "features.0" in mlcli("layers", *given).stdout

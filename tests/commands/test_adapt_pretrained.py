"""`mlcli adapt --pretrained`: what begins from known weights, keeps its normalization, and says so in its configs."""

import json
from dataclasses import fields

import pytest
import torch
from PIL import Image

from mlcli.api.adaptation_data import _size
from mlcli.api.adaptation_options import hyperparameters
from mlcli.data.sources import find_images
from mlcli.methods.adaptation.registry import METHODS, Optimized
from mlcli.models import artifacts, registry
from mlcli.training import run_folder
from tests import shapes
from tests.cli import mlcli

NAME = "timm/test_efficientnet"
QUICK = ["--source-steps", 2, "--source-batch-size", 6, "--precision", "fp32", "--size", 32]
STEPS = ["--steps", 2, "--batch-size", 6, "--candidates", 1]
SMALL = {"adda": [], "simgan": ["--filters", 2], "cycada": ["--pixel-steps", 2, "--filters", 2]}
SMALL |= {"seuda": ["--filters", 2], "shot": [], "dann": [], "self-ensembling": [], "adabn": []}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("domains")
    shapes.write(root / "source", 12)
    shapes.write(root / "target", 12, 1, target=True)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Plain tensors of the architecture, of three classes as the data have, which are others."""
    torch.manual_seed(1)
    network = registry.create(NAME, ("x", "y", "z"), 160).network
    file = tmp_path_factory.mktemp("weights") / "known.pth"
    torch.save(network.state_dict(), file)
    return file


def adapt(data, output, *options, method="adda", status=0):
    words = ["adapt", "--method", method, data / "source", data / "target", "-o", output, *QUICK, *SMALL[method]]
    words += STEPS if issubclass(METHODS[method].config, Optimized) else []
    return mlcli(*words, *options, status=status)


def changed(run, file) -> set[str]:
    """The first parts of the names of the tensors that are not those of the file."""
    known, found = artifacts.read(file).tensors, artifacts.read(run / "model.safetensors").tensors
    return {name.partition(".")[0] for name, tensor in found.items() if not tensor.equal(known[name])}


@pytest.mark.parametrize("method", METHODS)
def test_every_stage_begins_from_the_weights(method, data, weights, tmp_path):
    """At a learning rate of nothing the network is the known one but for its last layer, batch norms included."""
    run = tmp_path / "run"
    options = ["--model", NAME, "--pretrained", "--weights", weights, "--source-lr", 0]
    adapt(data, run, *options, method=method)
    source = run / "seed-0/source"
    assert changed(source, weights) == {"classifier"}
    if method == "simgan":
        assert changed(run / "seed-0/adapted", weights) == {"classifier"}

    config = json.loads((run / "config.json").read_text())
    assert config["options"]["pretrained"] and config["options"]["model"] == NAME
    assert config["data"]["model"]["hash"] == registry.load(NAME, weights).hash
    assert config["data"]["source"]["channels"] == 3, "gray images, of which the network takes three channels"
    stage = json.loads((source / "config.json").read_text())["options"]
    assert (stage["model"], stage["pretrained"], stage["weights"]) == (NAME, True, str(weights))

    own, made = registry.load(NAME, weights).preprocessing, registry.load(str(source)).preprocessing
    assert (made.mean, made.std, made.crop) == (own.mean, own.std, 32)
    mlcli("classify", data / "target", "--model", run, "--format", "json", "--precision", "fp32")


def test_more_seeds_and_other_weights(data, weights, tmp_path):
    options = ["--model", NAME, "--weights", weights]  # which is a beginning from them, without --pretrained too
    adapt(data, tmp_path / "both", *options, "--seeds", 2)
    adapt(data, tmp_path / "run", *options)
    assert json.loads((tmp_path / "run/config.json").read_text())["options"]["pretrained"]
    mlcli("adapt", "--method", "adda", data / "source", data / "target", "-o", tmp_path / "run", "--resume",
          "--seeds", 2)  # fmt: skip
    same = "seed-1/adapted/model.safetensors"
    assert (tmp_path / "run" / same).read_bytes() == (tmp_path / "both" / same).read_bytes()

    others = {name: tensor + 1 for name, tensor in artifacts.read(weights).tensors.items()}
    kept = weights.read_bytes()
    torch.save(others, weights)
    said = adapt(data, tmp_path / "run", *options, "--resume", status=1).stderr
    weights.write_bytes(kept)
    assert "began with other weights of its model" in said


def test_a_run_is_a_beginning_too(data, colors, tmp_path):
    """Of gray channels it takes what it has learned on; a run without --pretrained is no architecture."""
    adapt(data, tmp_path / "run", "--model", colors, "--pretrained", "--source-lr", 0)
    made = tmp_path / "run/seed-0/source"
    assert registry.load(str(made)).architecture == "cifarnet"
    assert changed(made, colors / "model.safetensors") == {"classifier"}
    gray = registry.create("cifarnet", ("a", "b"), 16, channels=1)
    run_folder.save_tensors(tmp_path / "gray/model.safetensors", gray.network.state_dict(), gray.describe())
    adapt(data, tmp_path / "of-gray", "--model", tmp_path / "gray", "--pretrained")
    assert json.loads((tmp_path / "of-gray/config.json").read_text())["data"]["target"]["channels"] == 1


@pytest.mark.parametrize("side, size", [(20, 64), (100, 100), (300, 160)])
def test_photographs_are_taken_at_their_own_size_within_what_the_model_knows(side, size, weights, tmp_path):
    for name in "ab":
        file = tmp_path / "source" / name / "1.png"
        file.parent.mkdir(parents=True)
        Image.new("RGB", (side, side + 9)).save(file)
    options = {"source": tmp_path / "source", "target": tmp_path / "source", "task": "classify", "method": "adda"}
    config = hyperparameters(options | {"model": NAME, "weights": weights})
    paths = find_images([str(tmp_path / "source")]).paths
    assert _size(paths, paths, [config], registry.load(NAME, weights)) == size


def test_the_defaults_are_those_of_photographs():
    def chosen(**options):
        found = hyperparameters({"task": "classify", "method": "adda"} | options)
        return {field.name: getattr(found, field.name) for field in fields(found)}

    scratch, begun = chosen(), chosen(pretrained=True)
    assert (scratch["model"], begun["model"]) == ("lenet", "efficientnet_lite0")
    assert begun["steps"] < scratch["steps"] and begun["source_batch_size"] < scratch["source_batch_size"]
    assert chosen(pretrained=True, steps=7)["steps"] == 7
    assert chosen(pretrained=True, method="seuda")["steps"] == chosen(method="seuda")["steps"], "of the generators"


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("adda", ["--model", "lenet", "--pretrained"], "--pretrained: lenet comes without weights"),
        ("seuda", ["--task", "segment", "--pretrained"], "--task segment takes unet"),
        ("seuda", ["--pretrained", "--size", 30], "resnet-6 takes sides that are multiples of 4"),
    ],
)
def test_mistakes_are_said(method, options, message, data, tmp_path):
    assert message in adapt(data, tmp_path / "run", *options, method=method, status=2).stderr
    assert not (tmp_path / "run").exists()

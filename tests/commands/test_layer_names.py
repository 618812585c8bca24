"""A name that is both the alias of a stage and the address of another layer, in every command that takes a layer."""

import json

import pytest

from mlcli.networks.cifarnet import CifarNet
from tests.cli import mlcli
from tests.tiny import class_folders

SAID = "conv3 is the alias of a convolutional stage and means conv4.relu; the layer conv3.1.relu is named by "
SAID += "conv3@address"
TUNING = ["--epochs", 1, "--val", "0.4", "--copies", 0, "--folds", 2]
STYLE = ["--steps", 1, "--size", 32, "--init", "content"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder in which photos/ and others/ have squares of three colors."""
    root = tmp_path_factory.mktemp("here")
    class_folders(root / "photos", per_class=3)
    class_folders(root / "others", per_class=3, seed=1)
    return root


@pytest.fixture
def here(photos, monkeypatch):
    """The working folder; the third stage of the network ends with another block than the one of that name."""
    monkeypatch.chdir(photos)
    monkeypatch.setattr(CifarNet, "stages", ("conv1", "conv3", "conv4"), raising=False)
    return photos


COMMANDS = {
    "neighbors": ["photos/red/00.png", "--among", "photos", "-o", "{}.png", "--layer", "{name}"],
    "patches": ["photos", "-o", "{}", "--units", "0", "--layer", "{name}"],
    "equivariance": ["photos/red", "-o", "{}", "--points", 2, "--layer", "{name}"],
    "maximize": ["{name}:3", "-o", "{}.png", "--steps", 1, "--size", 32],
    "atlas": ["-o", "{}", "--units", "0", "--steps", 1, "--layer", "{name}"],
    "stylize": [
        "photos/red/00.png",
        "--style",
        "photos/blue/00.png",
        "-o",
        "{}.png",
        *STYLE,
        "--style-layer",
        "{name}",
    ],
    "finetune": ["photos", "-o", "{}", "--freeze", "{name}", *TUNING],
    "siamese-train": ["photos", "-o", "{}", "--loss", "fisher", "--val", "others", "--size", 16, "--layer", "{name}"],
}
# Where the address stands in which file
ADDRESSES = {
    "neighbors": (".png.json", lambda told, name: told["address"]),
    "patches": ("/patches.json", lambda told, name: told["layers"][0]["address"]),
    "equivariance": ("/equivariance.json", lambda told, name: told["layers"][0]["address"]),
    "maximize": (".png.json", lambda told, name: told["addresses"][name]),
    "atlas": ("/atlas.json", lambda told, name: told["address"]),
    "stylize": (".png.json", lambda told, name: told["addresses"][name]),
    "finetune": ("/config.json", lambda told, name: told["data"]["model"]["addresses"][name]),
    "siamese-train": ("/config.json", lambda told, name: told["data"]["model"]["addresses"][name]),
}


def run(here, model, command, name, output):
    """(what is said, the address in the JSON) of a command on the layer of this name."""
    words = [str(word).format(output, name=name) for word in COMMANDS[command]]
    said = " ".join(mlcli(command, *words, "--model", model, "--device", "cpu").stderr.split())
    ending, address = ADDRESSES[command]
    return said, address(json.loads((here / f"{output}{ending}").read_text()), name)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_alias_is_meant_which_is_said_once_and_the_address_is_in_the_json(here, colors, command):
    said, meant = run(here, colors, command, "conv3", command)
    assert said.count(SAID) == 1 and meant == "conv4.relu"


@pytest.mark.parametrize("command", ["neighbors", "maximize"])
def test_the_address_is_meant_where_that_is_said(here, colors, command):
    said, meant = run(here, colors, command, "conv3@address", f"{command}-address")
    assert "alias" not in said and meant == "conv3.1.relu"


def test_the_kernels_of_the_stage_are_meant(here, colors):
    for name, meant in (("conv2", "conv2.0.conv"), ("conv3", "conv4.conv"), ("conv3@address", "conv3.0.conv")):
        result = mlcli("filters", "--model", colors, "--layer", name, "-o", "kernels.png", "--overwrite")
        told = " ".join(result.stderr.split())
        assert ("conv3 is the alias" in told) == (name == "conv3")
        assert "conv2 is the alias" not in told, "the first convolution of the stage is that of the block of its name"
        assert json.loads((here / "kernels.png.json").read_text())["address"] == meant


def test_the_rule_is_in_the_help():
    told = " ".join(mlcli("layers", "--help").stdout.replace("│", " ").split())
    assert "the alias is meant" in told and "conv1@address" in told

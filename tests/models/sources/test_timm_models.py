import json
import os

import pytest
import timm
import torch
from safetensors.torch import save_file

from mlcli.errors import UsageError, WeightsError
from mlcli.models import artifacts, catalog, model_files, registry
from mlcli.models.sources.timm_models import TIMM

TINY = "timm/test_efficientnet"  # 0.36 M parameters


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The hub's cache in a folder of its own, and no network."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def place(cache, name: str, network) -> None:
    """Put weights where the hub's client would have put them."""
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / "1").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1")
    save_file(network.state_dict(), folder / "snapshots" / "1" / "model.safetensors")
    configuration = {"architecture": name.partition(".")[0], "num_classes": 1000}
    (folder / "snapshots" / "1" / "config.json").write_text(json.dumps(configuration))


@pytest.mark.parametrize(
    "name, architecture",
    [
        ("timm/resnet50", "timm/resnet50"),
        ("timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("resnet50", "resnet50"),  # torchvision's
        ("resnet50d", "timm/resnet50d"),
        ("resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("efficientnet_lite0", "efficientnet_lite0"),  # the packaged one
        ("timm/efficientnet_lite0", "timm/efficientnet_lite0"),
        ("timm/resnet50.nonet", None),
        ("timm/nonet", None),
        ("timm/", None),
        ("hf-hub:timm/resnet50.a1_in1k", None),
        ("timm/hf-hub:timm/resnet50", None),
        ("local-dir:/tmp", None),
        ("timm/local-dir:/tmp", None),
    ],
)
def test_names(name, architecture):
    assert catalog.resolved(name) == architecture


def test_an_unknown_name_suggests_one():
    with pytest.raises(UsageError, match="did you mean .*resnet50d"):
        registry.load("resnet50dd")


def test_weights_where_the_download_puts_them_load(cache):
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet").eval()
    assert TIMM.stored(TINY) is None
    place(cache, "test_efficientnet", network)
    model = registry.load(TINY)
    assert model.weights_file == TIMM.stored(TINY) and TIMM.entry(TINY).weights_on_disk
    assert model.classes[0] == "tench" and model.wnids[0] == "n01440764"
    image = torch.rand(1, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(model(image), network(model.preprocessing.normalize(image)))


def test_absent_weights_are_told_with_their_address():
    with pytest.raises(WeightsError, match="not on this disk.*timm/test_efficientnet.r160_in1k/resolve.*--weights"):
        registry.load(TINY)
    assert len(registry.load(TINY, untrained=True).classes) == 1000


def test_an_architecture_without_weights():
    with pytest.raises(WeightsError, match="timm has no pretrained weights for it; give a file"):
        registry.load("timm/efficientnet_lite4")


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(1)
    network = timm.create_model("test_efficientnet")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = registry.load(TINY, tmp_path / "weights.pth")
    assert torch.equal(model.network.conv_stem.weight, network.conv_stem.weight)


@pytest.mark.parametrize("name, size, channels", [("timm/test_vit", 64, 3), (TINY, 48, 1), ("timm/test_resnet", 64, 3)])
def test_a_new_model_comes_back_from_its_file(name, size, channels, tmp_path):
    model = registry.create(name, ["a", "b", "c"], size, channels)
    assert model(torch.rand(2, channels, size, size)).shape == (2, 3)
    artifacts.save(tmp_path / "model.safetensors", model.network.state_dict(), model.describe())
    back = model_files.from_file(tmp_path / "model.safetensors")
    assert back.hash == model.hash and back.preprocessing == model.preprocessing and back.architecture == name


def test_a_size_that_cannot_be():
    with pytest.raises(UsageError, match="--size 50: .*timm/test_vit.*divisible by patch size"):
        registry.create("timm/test_vit", ["a"], 50)


def test_an_encoder_without_classes_says_so():
    known = TIMM.architecture("timm/vit_small_patch14_dinov2").pretrained()
    assert known.names.labels == () and known.options == {"num_classes": 0}
    assert TIMM.architecture("timm/resnet50_clip").pretrained().names.labels == ()  # its outputs are no classes


@pytest.mark.parametrize(
    "architecture, options",
    [
        ("hf-hub:timm/test_efficientnet.r160_in1k", {}),
        ("timm/hf-hub:timm/test_efficientnet.r160_in1k", {}),
        ("timm/local-dir:/tmp", {}),
        (TINY, {"pretrained": True}),
        (TINY, {"checkpoint_path": "/etc/passwd"}),
        (TINY, {"pretrained_cfg": {"url": "http://localhost/x.pth"}}),
        ("timm/" + "x" * 5000, {}),
    ],
)
def test_a_file_that_names_more_than_an_architecture_is_refused(architecture, options, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("opened something else")

    model = registry.create(TINY, ["a", "b"], 32)
    description = model.describe() | {"architecture": architecture, "options": options}
    file = tmp_path / "model.safetensors"
    artifacts.save(file, model.network.state_dict(), description)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(WeightsError, match="its description is damaged"):
        model_files.from_file(file)
    assert not os.path.exists(tmp_path / "torch")


def test_images_that_are_not_square_are_refused():
    with pytest.raises(UsageError, match="only square"):
        TIMM.architecture("timm/vit_base_patch16_sapiens2").pretrained()

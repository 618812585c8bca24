import io
import json
import re
import urllib.error
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from mlcli.errors import UsageError, WeightsError
from mlcli.models import artifacts, catalog, model_files, registry
from mlcli.models.sources import builtin
from mlcli.models.sources.torchvision_models import weights_path
from mlcli.runtime.device import Runtime
from mlcli.training import run_folder

LIGHT = "squeezenet1_1"  # 1.2 M parameters


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch, tmp_path):
    """A home for weights of its own, and no network."""

    def refuse(url, *_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


@pytest.fixture
def small():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog"], 24)
    model.network.eval()
    return model


@pytest.fixture
def saved(small, tmp_path):
    file = tmp_path / "small.safetensors"
    artifacts.save(file, small.network.state_dict(), small.describe())
    return file


@pytest.fixture
def run(small, tmp_path):
    folder = tmp_path / "run"
    artifacts.save(folder / "model.safetensors", small.network.state_dict(), small.describe())
    (folder / "config.json").write_text("{}")
    return folder


IMAGES = torch.arange(2 * 3 * 24 * 24).remainder(256).to(torch.uint8).reshape(2, 3, 24, 24)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, near", [("resnet51", "resnet50"), ("cifarnett", "cifarnet"), ("VGG16", "vgg16")])
def test_an_unknown_name_suggests_the_nearest(name, near):
    with pytest.raises(UsageError, match=f"--model {name}: .*did you mean .*{near}"):
        registry.load(name)
    with pytest.raises(UsageError, match=f"did you mean .*{near}"):
        registry.create(name, ["a"], 32)


@pytest.mark.parametrize("name", ["", "x" * 5000, "no such", "nul\0byte"])
def test_no_name_at_all(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="neither a run folder nor a known model"):
        registry.load(name)


@pytest.mark.parametrize("name", [".", "/"])
def test_a_folder_without_a_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"--model {name}: a folder without a model; name the folder of a run"):
        registry.load(name)


def test_the_file_of_a_run_is_its_model(small, tmp_path):
    described, plain = tmp_path / "model.safetensors", tmp_path / "plain.safetensors"
    run_folder.save_tensors(described, small.network.state_dict(), small.describe())
    opened = registry.load(str(described))
    assert opened.hash == small.hash and opened.classes == small.classes
    save_file(small.network.state_dict(), plain)
    with pytest.raises(UsageError, match="does not say of which network; give it as --weights"):
        registry.load(str(plain))
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(WeightsError, match="not a file of weights"):
        registry.load(str(tmp_path / "text"))


def test_a_known_name_goes_before_a_file_that_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifarnet").write_text("no weights")
    assert registry.load("cifarnet").classes and not registry.is_of_run("cifarnet")


def test_every_torchvision_classifier_can_be_named():
    names = catalog.nameable()
    assert names[0] == "efficientnet_lite0" and {"cifarnet", "resnet50", "vit_h_14", "maxvit_t"} < set(names)
    assert "fcn_resnet50" not in names and "raft_large" not in names
    assert len(names) == len(set(names))


def test_class_by_name_or_number(small):
    assert small.class_index("dog") == small.class_index("1") == 1
    for wrong in ("2", "-1", "²", "catt"):
        with pytest.raises(UsageError, match="no class of cifarnet"):
            small.class_index(wrong)
    with pytest.raises(UsageError, match="did you mean cat"):
        small.class_index("catt")


# -- creating --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, size", [("cifarnet", 16), ("squeezenet1_1", 32), ("googlenet", 64), ("inception_v3", 96), ("vit_b_32", 64)]
)
def test_a_new_model_trains_and_comes_back_from_its_file(name, size, tmp_path, recwarn):
    torch.manual_seed(0)
    model = registry.create(name, ["a", "b", "c"], size)
    assert model(torch.rand(2, 3, size, size)).shape == (2, 3)  # in training mode too
    file = tmp_path / "model.safetensors"
    artifacts.save(file, model.network.state_dict(), model.describe())
    back = registry.load("cifarnet", file) if name == "cifarnet" else model_files.from_file(file)
    assert back.classes == ("a", "b", "c") and back.architecture == name and back.hash == model.hash
    assert back.preprocessing == model.preprocessing and back.describe() == model.describe()
    assert not recwarn.list


def test_gray(tmp_path):
    model = registry.create("cifarnet", ["a", "b"], 20, channels=1)
    assert model(torch.randint(0, 256, (2, 1, 20, 20), dtype=torch.uint8)).shape == (2, 2)
    artifacts.save(tmp_path / "gray.safetensors", model.network.state_dict(), model.describe())
    back = model_files.from_file(tmp_path / "gray.safetensors")
    assert back.preprocessing.channels == 1 and back.hash == model.hash
    with pytest.raises(UsageError, match="--gray: resnet18 takes color"):
        registry.create("resnet18", ["a"], 32, channels=1)


@pytest.mark.parametrize("name, size", [("cifarnet", 15), ("vit_b_16", 100), ("maxvit_t", 100)])
def test_a_size_that_cannot_be(name, size):
    with pytest.raises(UsageError, match=f"--size {size}: {name}"):
        registry.create(name, ["a"], size)


# -- weights from files ----------------------------------------------------------------------------------------------


def test_a_run_folder_is_a_model(run, small):
    model = registry.load(str(run))
    small.network.eval()
    assert model.name == str(run) and model.classes == ("cat", "dog")
    assert torch.equal(model(IMAGES), small(IMAGES))
    assert not model.network.training and not any(p.requires_grad for p in model.network.parameters())


def test_an_unfinished_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="no model yet.*--resume"):
        registry.load(str(tmp_path))


def test_half_precision_files_load_as_float32(small, tmp_path):
    file = tmp_path / "half.safetensors"
    halves = {k: v.half() if v.is_floating_point() else v for k, v in small.network.state_dict().items()}
    artifacts.save(file, halves, small.describe())
    model = model_files.from_file(file)
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    weight = small.network.conv1.conv.weight
    assert torch.equal(model.network.conv1.conv.weight, weight.half().float())


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_plain_weights_in_place_of_a_models_own(run, tmp_path, ending, wrapped):
    torch.manual_seed(1)
    other = registry.create("cifarnet", ["cat", "dog"], 24)
    file = tmp_path / f"other.{ending}"
    if ending == "safetensors":
        save_file(other.network.state_dict(), file)
    else:
        state = other.network.state_dict()
        torch.save({"state_dict": state, "epoch": 3} if wrapped else state, file)
    model = registry.load(str(run), file)
    assert model.hash == other.hash and model.classes == ("cat", "dog") and model.weights_file == file


def test_described_weights_bring_their_classes_and_preprocessing(saved):
    model = registry.load("cifarnet", saved)
    assert model.classes == ("cat", "dog") and model.preprocessing.crop == 24 and model.name == "cifarnet"


def test_torchvision_weights_that_this_tool_trained(tmp_path):
    trained = registry.create(LIGHT, ["a", "b"], 64)
    file = tmp_path / "trained.safetensors"
    artifacts.save(file, trained.network.state_dict(), trained.describe())
    model = registry.load(LIGHT, file)
    assert model.hash == trained.hash and model.preprocessing == trained.preprocessing and model.classes == ("a", "b")


def test_weights_of_another_architecture(saved, tmp_path, run):
    with pytest.raises(WeightsError, match="weights of cifarnet, not of squeezenet1_1; take --model cifarnet"):
        registry.load(LIGHT, saved)
    plain = tmp_path / "plain.pth"
    torch.save(registry.load(LIGHT, untrained=True).network.state_dict(), plain)
    with pytest.raises(
        WeightsError, match="lacks conv1.conv.weight.* and .* more; has the unknown.*looks like --model squeezenet1_1"
    ):
        registry.load(str(run), plain)


def damaged(saved, tmp_path):
    whole = saved.read_bytes()
    pth = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, pth)
    length = int.from_bytes(whole[:8], "little")
    description = json.loads(json.loads(whole[8 : 8 + length])["__metadata__"]["mlcli"])
    contents = {
        "cut.safetensors": whole[: len(whole) // 2],
        "head.safetensors": whole[:4],
        "empty.safetensors": b"",
        "text.safetensors": b"not weights at all",
        "cut.pth": pth.getvalue()[:900],
        "empty.pth": b"",
        "text.pth": b"not weights at all",
        "page.pth": b"<!DOCTYPE html><html>404</html>",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        yield name
    for name, value in {"list.pth": [1, 2], "numbers.pth": {"lr": 0.1}, "nested.pth": {"state_dict": {"a": 1}}}.items():
        torch.save(value, tmp_path / name)
        yield name
    for name, wrong in {
        "list": [1],
        "bare": {"kind": "classifier"},
        "classes": description | {"classes": 3},
        "unknown": description | {"architecture": "nonet"},
        "preprocessing": description | {"preprocessing": {"zoom": 3}},
        "options": description | {"options": {"depth": 3}},
        "generator": description | {"kind": "generator"},
    }.items():
        run_folder.save_tensors(
            tmp_path / f"{name}.safetensors", model_files.from_file(saved).network.state_dict(), wrong
        )
        yield f"{name}.safetensors"
    (tmp_path / "folder.pth").mkdir()
    yield from ("folder.pth", "absent.pth", "absent.safetensors", "x" * 300 + ".pth")


def test_damaged_files_are_errors_that_name_them(saved, tmp_path):
    for name in damaged(saved, tmp_path):
        with pytest.raises(WeightsError, match=re.escape(str(tmp_path / name))):
            registry.load("cifarnet", tmp_path / name)


# -- torchvision's own weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LIGHT, "googlenet", "resnet18"])
def test_weights_where_the_download_puts_them_load(name, tmp_path):
    torch.manual_seed(3)
    import torchvision

    options = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    network = torchvision.models.get_model(name, weights=None, **options).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)  # else nothing of the image reaches the end
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    file = weights_path(name)
    assert file.parent == tmp_path / "torch" / "hub" / "checkpoints" and re.search(r"-[0-9a-f]{8}\.pth$", file.name)
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    model = registry.load(name)
    assert model.weights_file == file and len(model.classes) == 1000
    assert next(entry for entry in catalog.entries() if entry.name == name).weights_on_disk
    image = torch.randint(0, 256, (3, 240, 250), dtype=torch.uint8)
    prepared = model.preprocessing.prepare(image)
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    normal = torchvision.transforms.functional.normalize(prepared / 255, transforms.mean, transforms.std)[None]
    network.transform_input = name == "googlenet"  # as get_model sets it when it loads these weights itself
    with torch.inference_mode():
        torch.testing.assert_close(model(prepared[None]), network(normal))


def test_untrained_weights_serve_where_asked_for():
    assert len(registry.load(LIGHT, untrained=True).classes) == 1000
    with pytest.raises(WeightsError):
        registry.load(LIGHT)


def test_the_edge_detector_is_looked_at_and_not_asked():
    sobel = registry.load("sobel")
    assert sobel.classes == () and len(sobel.hash) == 64
    with pytest.raises(UsageError, match="knows no classes"):
        sobel(IMAGES)
    with pytest.raises(UsageError, match="unknown architecture") as error:
        registry.create("sobel", ["cat", "dog"], 32)
    assert "mean sobel" not in str(error.value)


def test_the_catalog_names_everything():
    entries = catalog.entries()
    assert [entry.name for entry in entries] == [name for name in catalog.nameable() if not name.startswith("timm/")]
    lites = [f"efficientnet_lite{number}" for number in range(3)]
    assert [entry.name for entry in entries if entry.weights_on_disk] == [*lites, "cifarnet", "sobel"]
    resnet = next(entry for entry in entries if entry.name == "resnet50")
    assert (resnet.million_parameters, resnet.size, resnet.classes) == (25.6, 224, 1000)
    assert 76 < resnet.imagenet_top1 < 82
    embedded = next(entry for entry in entries if entry.name == "cifarnet")
    assert (embedded.million_parameters, embedded.size, embedded.classes, embedded.license) == (3.3, 32, 10, "MIT")
    assert len(catalog.entries("timm/test_vit*")) > 2 and catalog.entries("nonet*") == []


# -- the object ------------------------------------------------------------------------------------------------------


def test_the_hash_is_of_the_weights_alone(small, saved, run):
    assert model_files.from_file(saved).hash == registry.load(str(run)).hash == small.hash
    runtime = Runtime(torch.device("cpu"), "fp32")
    assert model_files.from_file(saved).to(runtime).hash == small.hash  # channels_last
    changed = model_files.from_file(saved)
    changed.network.conv5.conv.weight.data[0, 0, 0, 0] += 1e-6
    assert changed.hash != small.hash


def test_images_go_in_as_the_weights_lie(small):
    images = torch.rand(2, 3, 24, 24)
    plain = small(images)
    small.to(Runtime(torch.device("cpu"), "fp32"))
    assert small.normalized(images).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(small(images), plain, atol=1e-5, rtol=1e-4)


def test_a_network_that_gives_no_classes_is_refused(monkeypatch):
    monkeypatch.setitem(
        builtin.ARCHITECTURES,
        "cifarnet",
        replace(builtin.ARCHITECTURES["cifarnet"], builder=lambda *_, **__: torch.nn.Conv2d(3, 8, 1)),
    )
    with pytest.raises(UsageError, match="cifarnet: is no classifier, its output is 8 x 16 x 16"):
        registry.create("cifarnet", ["a", "b"], 16)

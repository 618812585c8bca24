"""What fits a network, how many classes it has, and what is said of what does not fit."""

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from mlcli.errors import DataError, UsageError, WeightsError
from mlcli.models import artifacts, last_layer, registry
from mlcli.models.fitting import classes_of, fill, fitted

NAME = "cifarnet"


@pytest.fixture(scope="module")
def network():
    """cifarnet for 7 classes."""
    torch.manual_seed(0)
    return registry.create(NAME, list("abcdefg"), 32).network


def saved(state, folder, name="weights.pth"):
    torch.save(dict(state), folder / name)
    return folder / name


def refusal(name, file):
    with pytest.raises(WeightsError) as raised:
        registry.load(name, file)
    assert str(raised.value).startswith(f"{file}: ")
    assert "another architecture" not in str(raised.value)
    return str(raised.value).removeprefix(f"{file}: ")


# -- classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "cifarnet", "squeezenet1_1", "googlenet", "mobilenet_v2", "efficientnet_lite0", "timm/test_resnet",
        "timm/test_vit", "timm/test_efficientnet", "timm/test_convnext", "timm/levit_128s",
    ],
)  # fmt: skip
def test_the_number_of_classes_is_read_from_the_last_layers(name, tmp_path):
    original = registry.load(name, untrained=True)
    file = saved(last_layer.untrained(original, ["x"] * 3).network.state_dict(), tmp_path)
    model = registry.load(name, file)
    assert model.classes == ("0", "1", "2") and not model.wnids
    assert model.preprocessing == original.preprocessing and model.architecture == original.architecture
    side = model.preprocessing.crop
    assert model(torch.rand(1, 3, side, side)).shape == (1, 3)


def test_of_a_run_too_and_of_as_many_classes_the_names_stay(network, tmp_path):
    run, other = registry.create(NAME, ["cat", "dog"], 24), registry.create(NAME, ["0", "1"], 24)
    artifacts.save(tmp_path / "model.safetensors", run.network.state_dict(), run.describe())
    assert registry.load(str(tmp_path), saved(other.network.state_dict(), tmp_path)).classes == ("cat", "dog")
    model = registry.load(str(tmp_path), saved(network.state_dict(), tmp_path))
    assert model.classes == tuple("0123456") and model.preprocessing.crop == 24
    assert model.describe()["classes"] == list("0123456")


@pytest.mark.parametrize("content", ["one\ntwo\n", json.dumps(["one", "two"]), json.dumps({"1": "two", "0": "one"})])
def test_names_of_classes_from_a_file(content, tmp_path):
    file = saved(registry.create(NAME, ["a", "b"], 32).network.state_dict(), tmp_path)
    (tmp_path / "names").write_text(content)
    assert registry.load(NAME, file, classes=tmp_path / "names").classes == ("one", "two")


def test_wordnet_ids_as_names(tmp_path):
    file = saved(registry.create(NAME, ["a", "b"], 32).network.state_dict(), tmp_path)
    (tmp_path / "names").write_text("n01440764\nn02129604\n")
    model = registry.load(NAME, file, classes=tmp_path / "names")
    assert model.classes == ("tench", "tiger") and model.wnids == ("n01440764", "n02129604")


def test_names_that_are_too_many_or_no_names(network, tmp_path):
    file = saved(network.state_dict(), tmp_path)
    (tmp_path / "names").write_text("one\ntwo\n")
    with pytest.raises(UsageError, match="--classes .*names: holds 2 names, the model has 7 classes"):
        registry.load(NAME, file, classes=tmp_path / "names")
    (tmp_path / "names").write_text("{}")
    with pytest.raises(DataError, match="names: "):
        registry.load(NAME, file, classes=tmp_path / "names")


def test_one_output_is_no_class(tmp_path):
    file = saved(registry.create(NAME, ["yes"], 32).network.state_dict(), tmp_path)
    assert "one output, as of a yes or no" in refusal(NAME, file)


def test_a_network_without_a_last_layer_takes_that_of_the_file():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

    own = Encoder().state_dict()
    head = {"head.weight": torch.ones(5, 8), "head.bias": torch.ones(5)}
    assert classes_of(own | head, own, 0) == 5
    assert classes_of(own | head | {"other.weight": torch.ones(6, 5)}, own, 0) is None
    assert classes_of(own | head, own, 1000) is None


def test_other_lengths_than_the_number_of_classes_are_none(network):
    own = network.state_dict()
    wide = {key: t[:5] if t.ndim and len(t) == 7 else t for key, t in own.items()}
    assert classes_of(wide, own, 7) == 5
    assert classes_of(wide, own, 6) is None  # it differs elsewhere than in classes
    (weight, bias) = [key for key in own if own[key].ndim and len(own[key]) == 7]
    assert classes_of(own | {weight: wide[weight]} | {bias: own[bias][:4]}, own, 7) is None
    assert classes_of(own | {weight: own[weight][:5, 1:]} | {bias: own[bias][:5]}, own, 7) is None


# -- tensors that a network can do without ---------------------------------------------------------------------------


def test_auxiliary_heads_of_training_are_left_out(network):
    extra = {f"{name}.fc.weight": torch.ones(2, 2) for name in ("AuxLogits", "aux1", "aux2")}
    found = fitted({f"module.{key}": t for key, t in (network.state_dict() | extra).items()}, network, "a")
    assert found.keys() == network.state_dict().keys()


def test_buffers_that_a_network_computes_itself_are_left_out():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.register_buffer("mask", torch.ones(2), persistent=False)

    network = Masked()
    assert fitted(network.state_dict() | {"mask": torch.zeros(2)}, network, "a").keys() == network.state_dict().keys()


# -- without a last layer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_a_backbone_is_a_model_without_classes(prefix, network, tmp_path):
    body = {f"{prefix}{key}": t for key, t in network.state_dict().items() if not t.ndim or len(t) != 7}
    if prefix:
        body["projection.weight"] = torch.ones(3, 3)
    file = saved(body, tmp_path)
    model = registry.load(NAME, file)
    assert model.classes == () and registry.load(NAME, file).hash == model.hash
    with pytest.raises(UsageError, match="knows no classes"):
        model(torch.rand(1, 3, 32, 32))
    learner = last_layer.with_classes(model, ["a", "b", "c"])
    assert torch.equal(learner.network.conv3[0].conv.weight, network.conv3[0].conv.weight)
    assert learner(torch.rand(1, 3, 32, 32)).shape == (1, 3)
    (tmp_path / "names").write_text("one\ntwo\n")
    with pytest.raises(UsageError, match="holds 2 names, the model has 0 classes"):
        registry.load(NAME, file, classes=tmp_path / "names")


# -- what does not fit -----------------------------------------------------------------------------------------------


def test_missing_unknown_and_shapes_are_named(network, tmp_path):
    state = network.state_dict()
    del state["conv3.0.conv.weight"]
    state |= {"conv1.conv.weight": torch.ones(4, 1, 7, 7), "gate.weight": torch.ones(2, 2)}
    said = refusal(NAME, saved(state, tmp_path))
    own = " x ".join(map(str, network.conv1.conv.weight.shape))
    assert said.startswith("does not fit cifarnet: lacks conv3.0.conv.weight; has the unknown gate.weight; ")
    assert f"conv1.conv.weight 4 x 1 x 7 x 7 for {own}" in said


def test_a_last_layer_that_is_built_otherwise(network, tmp_path):
    state = network.state_dict()
    (weight, bias) = [key for key in state if state[key].ndim and len(state[key]) == 7]
    layer = weight.rpartition(".")[0]
    state |= {f"{layer}.1.weight": state.pop(weight), f"{layer}.1.bias": state.pop(bias)}
    said = refusal(NAME, saved(state, tmp_path))
    assert f"all but the last layer fits, which is {layer}.1.weight (7 x " in said
    assert f"save it as {weight}, {bias}" in said
    state |= {f"{layer}.4.weight": torch.ones(7, 7), f"{layer}.4.bias": torch.ones(7)}
    assert "leave it out, and finetune the rest" in refusal(NAME, saved(state, tmp_path))


@pytest.mark.parametrize(
    "split, remedy",
    [
        (parametrizations.weight_norm, "remove_parametrizations"),
        (parametrizations.spectral_norm, "remove_parametrizations"),
        (lambda layer: prune.random_unstructured(layer, "weight", 0.5), "prune.remove"),
    ],
)
def test_weights_that_are_kept_in_parts(split, remedy, tmp_path):
    network = registry.create(NAME, ["a", "b"], 32).network
    split(network.conv1.conv)
    said = refusal(NAME, saved(network.state_dict(), tmp_path))
    assert "lacks conv1.conv.weight" in said and "kept in parts: join them where it was made (" in said
    assert remedy in said


def test_described_weights_of_another_architecture_and_of_another_name_for_the_same(tmp_path):
    trained = registry.create("timm/test_resnet.r160_in1k", ["a", "b"], 64)
    artifacts.save(tmp_path / "a.safetensors", trained.network.state_dict(), trained.describe())
    assert registry.load("timm/test_resnet", tmp_path / "a.safetensors").classes == ("a", "b")
    said = refusal(NAME, tmp_path / "a.safetensors")
    assert said == "weights of timm/test_resnet.r160_in1k, not of cifarnet; take --model timm/test_resnet.r160_in1k"


# -- in the form of their authors ------------------------------------------------------------------------------------


def test_efficientnet_lite_in_the_names_of_its_package(tmp_path):
    from mlcli.models.sources.lite import LITE

    tensors = torch.load(LITE.stored("efficientnet_lite0"), weights_only=True)
    own = registry.load("efficientnet_lite0")
    assert registry.load("efficientnet_lite0", LITE.stored("efficientnet_lite0")).hash == own.hash
    tensors |= {"_fc.weight": tensors["_fc.weight"][:3], "_fc.bias": tensors["_fc.bias"][:3]}
    assert registry.load("efficientnet_lite0", saved(tensors, tmp_path)).classes == ("0", "1", "2")


@pytest.mark.parametrize("classes", [1000, 5])
def test_a_form_that_timm_converts(classes, tmp_path):
    """ConvNeXt as its authors keep it."""
    name = "timm/test_convnext"
    network = registry.create(name, [str(number) for number in range(classes)], 160).network
    theirs = {}
    for key, tensor in network.state_dict().items():
        for own, other in (("stem.", "downsample_layers.0."), (".blocks.", "."), ("conv_dw", "dwconv"),
                           ("mlp.fc", "pwconv"), ("head.fc.", "head."), ("head.norm", "norm")):  # fmt: skip
            key = key.replace(own, other)
        key = (
            key
            if ".downsample." not in key
            else "downsample_layers" + key.removeprefix("stages").replace(".downsample.", ".")
        )
        theirs[key] = tensor
    assert "stages.0.0.dwconv.weight" in theirs and "stages.0.blocks.0.conv_dw.weight" not in theirs
    model = registry.load(name, saved({"model": theirs}, tmp_path))
    assert len(model.classes) == classes and torch.equal(model.network.head.fc.weight, network.head.fc.weight)
    assert torch.equal(model.network.stages[0].blocks[0].conv_dw.weight, network.stages[0].blocks[0].conv_dw.weight)


def test_a_network_is_filled_in_its_own_precision():
    network, other = torch.nn.BatchNorm2d(2).half(), torch.nn.BatchNorm2d(2)
    other.weight.data.fill_(3)
    tensors = {key: tensor for key, tensor in other.state_dict().items() if key != "num_batches_tracked"}
    fill(network, tensors, "a")
    assert network.weight.dtype == torch.float16 and network.weight.tolist() == [3, 3]


def test_what_does_not_fit_is_named():
    tensors = {"weight": torch.ones(3), "bias": torch.ones(2), "running_mean": torch.ones(2), "scale": torch.ones(1)}
    with pytest.raises(WeightsError) as raised:
        fill(torch.nn.BatchNorm2d(2), tensors, "a.pth")
    assert str(raised.value) == (
        "a.pth: does not fit the network: lacks running_var; has the unknown scale; has other shapes: weight 3 for 2"
    )

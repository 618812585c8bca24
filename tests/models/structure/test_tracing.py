"""Addresses, modules that cannot be looked into, and what overwrites its input."""

import sys

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import get_graph_node_names

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.models import registry, shapes
from mlcli.models.model import Model
from mlcli.models.sources import builtin
from mlcli.models.structure import features
from mlcli.models.structure.features import Activations
from mlcli.models.structure.tracing import Trace
from tests.untrained import untrained


def model_of(network: nn.Module, crop: int = 8) -> Model:
    return Model("own", network.eval(), ("a", "b"), Preprocessing(crop=crop), "own")


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet", "shufflenet_v2_x0_5"])
def test_addresses_are_those_of_torchvision(name):
    network = untrained(name).network
    _, expected = get_graph_node_names(network, suppress_diff_warning=True)
    assert list(Trace(network, name).addresses.values()) == expected


def test_a_module_whose_name_ends_with_a_number_keeps_it():
    class Numbered(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm_1, self.norm_2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm_1(self.norm_2(self.norm_1(x)))

    found = [layer.address for layer in features.layers(model_of(Numbered()))]
    assert found == ["norm_1", "norm_2", "norm_1_1"]


def test_layers_that_do_nothing_are_none():
    model = registry.create("timm/test_efficientnet", ("a", "b"), 32)
    kinds = {layer.kind for layer in features.layers(model)}
    assert any(type(module) is nn.Identity for module in model.network.modules()) and "Identity" not in kinds


class Asks(nn.Module):
    """Goes one way or another by the values of the image."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = self.conv(x)
        return y if y.sum() > 0 else -y


class Head(nn.Module):
    def __init__(self, *before: nn.Module):
        super().__init__()
        self.before, self.head = nn.Sequential(*before), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.before(x).mean((2, 3)))


def test_a_module_that_cannot_be_looked_into_is_one_layer():
    model = model_of(Head(nn.Conv2d(3, 3, 3), Asks()))
    found = {layer.address: layer for layer in features.layers(model)}
    assert list(found) == ["before.0", "before.1", "mean", "head"]
    assert found["before.1"].kind == "Asks" and found["before.1"].parameters == 12
    assert found["before.1"].is_map and found["before.1"].receptive_field == float("inf"), "it may see everything"
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(Activations(model, ["head"])(image)["head"], model(image))


def test_a_network_that_cannot_be_looked_into_is_refused_in_one_line():
    class Root(Head):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(UsageError, match="own: its layers cannot be identified, since its code needs values") as error:
        features.layers(model_of(Root()))
    assert "\n" not in str(error.value)


def test_what_is_overwritten_is_followed():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.conv(x)
            y = self.relu(x)
            y.mul_(2.0)  # whose result is not used
            return x.sigmoid() + y

    model = model_of(Overwrites())
    image = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        told = model.network(model.normalized(image))
        values = Activations(model, ["add", "conv", "relu"])(image)
    assert torch.equal(values["add"], told)
    assert torch.equal(values["relu"], values["conv"].relu()) and values["conv"].min() < 0, "as it was before"


@pytest.mark.parametrize("mode", [True, False])
def test_tracing_is_of_evaluation_and_leaves_the_mode(mode):
    network = registry.create("cifarnet", ("a", "b"), 16).network.train(mode)
    network.conv2.eval()
    before = [module.training for module in network.modules()]
    Trace(network, "cifarnet")
    assert [module.training for module in network.modules()] == before


def test_timm_is_imported_for_its_own_networks_alone(monkeypatch):
    model, own = registry.create("cifarnet", ("a", "b"), 16), registry.create("timm/test_resnet", ("a", "b"), 32)
    for module in ("timm.layers", "timm.models", "torchvision"):
        monkeypatch.setitem(sys.modules, module, None)  # an import fails
    features.layers(model)
    with pytest.raises(ImportError):
        features.layers(own)


def test_a_size_that_does_not_suit_is_said_once_and_without_the_names_of_nodes(capfd):
    model = registry.create("timm/vit_tiny_patch16_224", ("a", "b"), 224)
    with pytest.raises(AssertionError, match=r"^Input height doesn't match model \(224\).$"):
        Activations(model, ["head"])(torch.rand(1, 3, 128, 128))
    assert capfd.readouterr() == ("", "")


def test_what_fails_without_a_word_is_named_by_its_kind():
    class Checks(Head):
        def forward(self, x):
            assert x.shape[-1] == 16
            return super().forward(x)

    with pytest.raises(UsageError, match=r"own: its layers cannot be identified.*control flow"):
        features.layers(model_of(Checks()))

    class Refuses(Head):
        def forward(self, x):
            raise ValueError

    with pytest.raises(UsageError, match=r"\(ValueError\)"):
        features.layers(model_of(Refuses()))


def test_tensors_that_the_code_makes_have_no_numbers_in_the_layers(monkeypatch):
    class Makes(Head):
        def forward(self, x):
            grid = torch.arange(x.shape[-1], device=self.head.weight.device, dtype=torch.float32)
            return super().forward(x + grid)

    monkeypatch.setattr(shapes, "LIGHT", 0)
    model, ran = model_of(Makes()), []
    model.network.head.register_forward_pre_hook(lambda _, inputs: ran.append(inputs[0].device.type))
    assert [layer.kind for layer in features.layers(model)] == ["add", "mean", "Linear"]
    assert ran == ["meta"]
    assert torch.equal(Activations(model, ["head"])(image := torch.rand(1, 3, 8, 8))["head"], model(image))


@pytest.mark.parametrize("name", [name for name, known in builtin.ARCHITECTURES.items() if known.trainable])
def test_all_networks_of_our_own_can_be_traced(name):
    model = registry.create(name, ["a", "b"], 32)
    assert features.layers(model)[-1].shape[0] == 2

"""Layers as the graph of a network has them: stages, shapes, receptive fields."""

import copy

import pytest
import torch
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.features import Activations
from mlcli.models.structure.graph import WHOLE
from tests.untrained import translated, untrained

# What conv1, conv2, ... mean. Expensive networks have the same structure as the small ones of their family here.
STAGES = {
    "cifarnet": "conv1.relu conv2.1.relu conv3.1.relu conv4.relu conv5.relu",
    "alexnet": "features.1 features.4 features.7 features.9 features.11",
    "vgg11_bn": "features.2 features.6 features.13 features.20 features.27",
    "vgg16": "features.3 features.8 features.15 features.22 features.29",
    "resnet18": "relu layer1.1.relu_1 layer2.1.relu_1 layer3.1.relu_1 layer4.1.relu_1",
    "resnet50": "relu layer1.2.relu_2 layer2.3.relu_2 layer3.5.relu_2 layer4.2.relu_2",
    "squeezenet1_1": "features.1 features.4.cat features.7.cat features.12.cat",
    "googlenet": "conv1.relu conv3.relu inception3b.cat inception4e.cat inception5b.cat",
    "inception_v3": "Conv2d_2b_3x3.relu Conv2d_4a_3x3.relu Mixed_5d.cat Mixed_6e.cat Mixed_7c.cat_2",
    "mobilenet_v2": "features.2.conv.0 features.4.conv.0 features.7.conv.0 features.14.conv.0 features.18",
    "mobilenet_v3_small": "features.0 features.2.block.0 features.4.block.0 features.9.block.0 features.12",
    "mnasnet0_5": "layers.8.0.layers.2 layers.9.0.layers.2 layers.10.0.layers.2 layers.12.0.layers.2 layers.16",
    "densenet121": "features.relu0 features.transition1.conv features.transition2.conv features.transition3.conv relu",
    "efficientnet_b0": "features.2.0.block.0 features.3.0.block.0 features.4.0.block.0 features.6.0.block.0 features.8",
    "shufflenet_v2_x0_5": "conv1.2 stage2.3.view_1 stage3.7.view_1 conv5.2",
    "regnet_y_400mf": "stem trunk_output.block1.block1-0.activation trunk_output.block2.block2-2.activation "
    "trunk_output.block3.block3-5.activation trunk_output.block4.block4-5.activation",
    "convnext_tiny": "features.2.0.permute_1 features.4.0.permute_1 features.6.0.permute_1 features.7.2.add",
    "vit_b_16": "conv_proj",
    "swin_t": "features.0.0",
}


@pytest.mark.parametrize("name", STAGES)
def test_the_stages_of_each_family(name):
    found = features.layers(untrained(name))
    stages = [layer for layer in found if layer.alias]
    assert [layer.address for layer in stages] == STAGES[name].split()
    assert [layer.alias for layer in stages] == [f"conv{n}" for n in range(1, len(stages) + 1)]
    assert all(layer.is_map for layer in stages)
    assert len({layer.address for layer in found}) == len(found)


@pytest.mark.parametrize(
    "name, alias, stage, own",
    [("resnet18", "conv1", "relu", "conv1"), ("googlenet", "conv2", "conv3.relu", "conv2.relu")],
)
def test_an_alias_is_meant_where_an_address_has_its_name_too(name, alias, stage, own):
    model = untrained(name)
    assert features.resolve(model, alias).address == stage
    assert features.resolve(model, f"{alias}@address").address == own
    assert features.hidden_by(model, alias).address == own
    assert features.hidden_by(model, "layer1") is None and features.hidden_by(model, "conv5") is None
    with pytest.raises(UsageError, match="conv9@address: no layer"):
        features.resolve(model, "conv9@address")


def test_an_alias_that_ends_the_block_of_its_name_hides_nothing():
    model = untrained("cifarnet")
    assert all(features.hidden_by(model, f"conv{number}") is None for number in range(1, 6))
    assert features.resolve(model, "conv2@address").address == features.resolve(model, "conv2").address


def test_the_values_of_a_hidden_layer():
    model = registry.create("resnet18", [str(n) for n in range(1000)], 224)
    model.network.eval()
    values = Activations(model, ["conv1", "conv1@address", "conv1@address@signed"])(torch.rand(1, 3, 224, 224))
    assert values["conv1"].min() == 0 > values["conv1@address"].min()
    assert torch.equal(values["conv1@address"], values["conv1@address@signed"])


def test_shapes_and_parameters_are_those_of_the_network():
    model = untrained("cifarnet")
    found = {layer.address: layer for layer in features.layers(model)}
    values = Activations(model, list(found))(torch.rand(2, 3, 32, 32))
    for address, layer in found.items():
        assert values[address].shape == (2, *layer.shape)
    assert sum(layer.parameters for layer in found.values()) == sum(p.numel() for p in model.network.parameters())
    assert found["conv1.conv"].kind == "Conv2d" and found["conv1.conv"].module is model.network.conv1.conv


def test_layers_touch_neither_weights_nor_mode():
    model = untrained("cifarnet")
    before, tensor = model.hash, next(model.network.parameters())
    features.layers(model)
    assert Model.hash.func(model) == before
    assert next(model.network.parameters()) is tensor and tensor.device.type == "cpu"
    assert not model.network.training


# -- receptive field and stride against brute force ------------------------------------------------------------------


def smooth(network: nn.Module) -> nn.Module:
    """A float64 copy in which every weight is positive and no unit is off, so that a gradient shows all it can see."""
    network = copy.deepcopy(network).double().eval()
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.ReLU):
                setattr(parent, name, nn.Dropout())  # an identity that is a layer
            elif isinstance(module, nn.MaxPool2d):
                kernel, stride, padding, ceil = module.kernel_size, module.stride, module.padding, module.ceil_mode
                setattr(parent, name, nn.AvgPool2d(kernel, stride, padding, ceil))
            elif isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    return network


def seen(values, image, row, column):
    """(top, left, height, width) of the pixels that the unit at a position sees."""
    (gradient,) = torch.autograd.grad(values[0, :, row, column].sum(), image, retain_graph=True)
    rows, columns = (gradient[0].abs().amax((0, dim)).nonzero()[:, 0] for dim in (2, 1))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


@pytest.mark.parametrize(
    "name, addresses",
    [
        ("cifarnet", "conv1 conv2.0.pool conv2 conv3.0.conv conv3.0.pool conv3 conv4.pool conv4 conv5"),
        ("alexnet", "features.0 features.2 features.3 features.5 features.8 features.12"),
        ("vgg11", "features.2 features.6 features.11 features.15"),
        ("resnet18", "conv1 maxpool layer1.0.add layer2.0.downsample.0 layer2.0.relu layer2 layer3"),
        ("googlenet", "conv1 maxpool2 inception3a.branch2 inception3a.branch4.0 inception3a inception4a inception4b"),
    ],
)
def test_receptive_field_and_stride_are_what_gradients_reach(name, addresses):
    torch.manual_seed(0)
    side = {"cifarnet": 96, "alexnet": 320, "vgg11": 112, "resnet18": 256, "googlenet": 256}[name]
    model = registry.create(name, ["a"], side)
    model.network = smooth(model.network)
    addresses = addresses.split()
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    extractor = Activations(model, addresses)
    values = extractor.extractor(image)
    for address in addresses:
        layer, maps = features.resolve(model, address), values[extractor.nodes[address]]
        middle = maps.shape[-1] // 2
        top, left, height, width = seen(maps, image, middle, middle)
        down, right, *_ = seen(maps, image, middle + 1, middle + 1)
        assert height == width == layer.receptive_field, address
        assert down - top == right - left == layer.stride, address
        assert layer.box(middle, middle, side, side) == (left, top, left + width, top + height), address
        corner = seen(maps, image, 0, 0)
        assert layer.box(0, 0, side, side) == (corner[1], corner[0], corner[1] + corner[3], corner[0] + corner[2])
        assert layer.shape == tuple(maps.shape[1:])


def test_asymmetric_kernels_grow_each_side_on_its_own():
    found = {layer.address: layer for layer in features.layers(untrained("inception_v3"))}
    before = found["Mixed_6a.cat"].receptive_field
    # 1x7 and 7x1, one after the other, on maps of stride 16
    assert found["Mixed_6b.branch7x7_2.conv"].receptive_field == before + 6 * 16
    assert found["Mixed_6b.branch7x7_3.conv"].receptive_field == before + 6 * 16


class Branches(nn.Module):
    """A tall dilated kernel beside a single pixel; then a dilated pooling."""

    def __init__(self):
        super().__init__()
        self.tall, self.one = nn.Conv2d(3, 2, (3, 1), dilation=(4, 1), padding=(4, 0)), nn.Conv2d(3, 2, 1)
        self.pool = nn.MaxPool2d(2, stride=1, dilation=3)

    def forward(self, x):
        return self.pool(torch.cat([self.tall(x), self.one(x)], 1))


def test_a_concatenation_sees_what_its_widest_branch_sees():
    model = Model("branches", Branches().eval(), ("a",), Preprocessing(), "branches")
    found = {layer.address: layer.receptive_field for layer in features.layers(model)}
    assert found == {"tall": 1 + 2 * 4, "one": 1, "cat": 9, "pool": 9 + 3}


def test_what_sees_the_whole_image():
    model = untrained("cifarnet")
    found = {layer.address: layer for layer in features.layers(model)}
    assert found["pool"].receptive_field == found["classifier"].stride == WHOLE
    assert not found["features"].is_map
    found = {layer.address: layer for layer in features.layers(untrained("mobilenet_v3_small"))}
    after = found["features.1.block.2"]  # past a squeeze-and-excitation: it sees everything and still has positions
    assert after.receptive_field == WHOLE and after.stride == 4 and after.is_map
    tokens = {layer.address: layer for layer in features.layers(untrained("vit_b_16"))}
    assert tokens["encoder.ln"].receptive_field == WHOLE and not tokens["encoder.ln"].is_map
    windows = {layer.address: layer for layer in features.layers(untrained("swin_t"))}
    assert not windows["features.0.1"].is_map  # channels last
    assert windows["features.1.0.attn.shifted_window_attention"].receptive_field == WHOLE


@pytest.mark.parametrize("name, ends", [("lenet", ["conv1", "conv2"]), ("digits", ["5", "12", "19"])])
def test_stages_of_the_networks_of_digits(name, ends):
    model = registry.create(name, ("a", "b"), 28, 1)
    model.network.eval()
    aliases = {layer.alias: layer.address.rpartition(".")[2] for layer in features.layers(model) if layer.alias}
    assert aliases == {f"conv{number}": end for number, end in enumerate(ends, 1)}


@pytest.mark.parametrize("generator, norm", [("resnet-6", "layers.2"), ("unet", "downs.1.2")])
def test_layers_behind_a_generator_with_instance_norm(generator, norm):
    model = translated(generator)
    found = {layer.address: layer for layer in features.layers(model)}
    layer = found[f"generator.{norm}"]
    assert layer.kind == "InstanceNorm2d" and layer.is_map and layer.receptive_field == WHOLE != layer.stride
    assert features.hidden(model).address == "network.features" and features.head(model).address == "network.classifier"
    aliases = {layer.alias: layer.address for layer in found.values() if layer.alias}
    assert list(aliases) == ["conv1", "conv2", "conv3", "conv4", "conv5"], "of the network, not of the generator"
    assert all(address.startswith("network.conv") for address in aliases.values())
    activations = Activations(model, ["network.mul"])
    for count in (1, 5):  # few images and many go different ways through the norm
        images = torch.rand(count, 3, 16, 16)
        assert torch.equal(activations(images)["network.mul"], model(images))

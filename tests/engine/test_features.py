import copy

import pytest
import torch
from torch import nn

from mlcli.engine import features, models
from mlcli.engine.features import WHOLE, Activations
from mlcli.errors import UsageError

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


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = models.create("cifarnet", ["cat", "dog"], 32)
    model.network.eval()
    return model


def untrained(name):
    """A torchvision classifier at its own input size, its weights of no account."""
    if name == "cifarnet":
        model = models.create(name, range(10), 32)
    elif name.startswith("regnet"):  # copies its weights while it is built
        model = models._torchvision(name)
    else:
        with torch.device("meta"):
            model = models._torchvision(name)
    model.network.eval()
    return model


@pytest.mark.parametrize("name", STAGES)
def test_the_stages_of_each_family(name):
    found = features.layers(untrained(name))
    stages = [layer for layer in found if layer.alias]
    assert [layer.address for layer in stages] == STAGES[name].split()
    assert [layer.alias for layer in stages] == [f"conv{n}" for n in range(1, len(stages) + 1)]
    assert all(layer.is_map for layer in stages)
    assert len({layer.address for layer in found}) == len(found)


def test_shapes_and_parameters_are_those_of_the_network(model):
    found = {layer.address: layer for layer in features.layers(model)}
    values = Activations(model, list(found))(torch.rand(2, 3, 32, 32))
    for address, layer in found.items():
        assert values[address].shape == (2, *layer.shape)
    assert sum(layer.parameters for layer in found.values()) == sum(p.numel() for p in model.network.parameters())
    assert found["conv1.conv"].kind == "Conv2d" and found["conv1.conv"].module is model.network.conv1.conv


def test_layers_touch_neither_weights_nor_mode(model):
    before, tensor = model.hash, next(model.network.parameters())
    features.layers(model)
    assert models.Model.hash.func(model) == before
    assert next(model.network.parameters()) is tensor and tensor.device.type == "cpu"
    assert not model.network.training


# -- receptive field and stride against brute force ------------------------------------------------------------------


def smooth(network: nn.Module) -> nn.Module:
    """A float64 copy in which every weight is positive and no unit is off, so that a gradient shows all it can see."""
    network = copy.deepcopy(network).double().eval()
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.ReLU):
                setattr(parent, name, nn.Identity())
            elif isinstance(module, nn.MaxPool2d):
                kernel, stride, padding, ceil = module.kernel_size, module.stride, module.padding, module.ceil_mode
                setattr(parent, name, nn.AvgPool2d(kernel, stride, padding, ceil))
            elif isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    return network


def seen(values, picture, row, column):
    """(top, left, height, width) of the pixels that the unit at a place sees."""
    (gradient,) = torch.autograd.grad(values[0, :, row, column].sum(), picture, retain_graph=True)
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
    model = models.create(name, ["a"], side)
    model.network = smooth(model.network)
    addresses = addresses.split()
    picture = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    extractor = Activations(model, addresses)
    values = extractor.extractor(picture)
    for address in addresses:
        layer, maps = features.resolve(model, address), values[extractor.nodes[address]]
        middle = maps.shape[-1] // 2
        top, left, height, width = seen(maps, picture, middle, middle)
        down, right, *_ = seen(maps, picture, middle + 1, middle + 1)
        assert height == width == layer.receptive_field, address
        assert down - top == right - left == layer.stride, address
        assert layer.box(middle, middle, side, side) == (left, top, left + width, top + height), address
        corner = seen(maps, picture, 0, 0)
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
    model = models.Model("branches", Branches().eval(), ("a",), models.Preprocessing(), "branches")
    found = {layer.address: layer.receptive_field for layer in features.layers(model)}
    assert found == {"tall": 1 + 2 * 4, "one": 1, "cat": 9, "pool": 9 + 3}


def test_what_sees_the_whole_picture(model):
    found = {layer.address: layer for layer in features.layers(model)}
    assert found["pool"].receptive_field == found["classifier"].stride == WHOLE
    assert not found["features"].is_map
    found = {layer.address: layer for layer in features.layers(untrained("mobilenet_v3_small"))}
    after = found["features.1.block.2"]  # past a squeeze-and-excitation: it sees everything and still has a place
    assert after.receptive_field == WHOLE and after.stride == 4 and after.is_map
    tokens = {layer.address: layer for layer in features.layers(untrained("vit_b_16"))}
    assert tokens["encoder.ln"].receptive_field == WHOLE and not tokens["encoder.ln"].is_map
    windows = {layer.address: layer for layer in features.layers(untrained("swin_t"))}
    assert not windows["features.0.1"].is_map  # channels last
    assert windows["features.1.0.attn.shifted_window_attention"].receptive_field == WHOLE


# -- vectors ---------------------------------------------------------------------------------------------------------

# The input of the last linear layer, or of the convolution that stands for it, without dropout
HIDDEN = {
    "cifarnet": "features",
    "alexnet": "classifier.5",
    "vgg11_bn": "classifier.4",
    "resnet18": "flatten",
    "squeezenet1_1": "features.12.cat",
    "mobilenet_v3_small": "classifier.1",
    "shufflenet_v2_x0_5": "mean",
    "convnext_tiny": "classifier.1",
    "vit_b_16": "getitem_5",
    "swin_t": "flatten",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_the_last_hidden_layer(name):
    assert features.hidden(untrained(name)).address == HIDDEN[name]


def test_a_network_without_a_hidden_layer():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Linear(8, 2)

        def forward(self, x):
            return self.only(x)

    with pytest.raises(UsageError, match="no hidden layer"):
        features.hidden(models.Model("line", Linear().eval(), ("a", "b"), models.Preprocessing(crop=8), "line"))


@pytest.mark.parametrize(
    "name, address, channels, places",
    [
        ("cifarnet", "conv3", 1, (2, 3)),
        ("cifarnet", "pool", 1, (2, 3)),
        ("alexnet", "avgpool", 1, (2, 3)),  # sees everything and has places all the same
        ("vit_b_16", "encoder.ln", 2, (1,)),
        ("swin_t", "features.1.0.norm1", 3, (1, 2)),
        ("swin_t", "features.2.reduction", 3, (1, 2)),
        ("swin_t", "flatten", 1, ()),
    ],
)
def test_a_vector_has_the_channels_of_its_layer(name, address, channels, places):
    layer = features.resolve(untrained(name), address)
    values = torch.rand(2, *layer.shape)
    vectors = features.vectors(values, layer)
    assert vectors.shape == (2, values.shape[channels])
    torch.testing.assert_close(vectors, values.mean(places) if places else values)


def test_what_has_no_channels():
    layer = next(layer for layer in features.layers(untrained("shufflenet_v2_x0_5")) if len(layer.shape) == 4)
    with pytest.raises(UsageError, match="neither a map nor a vector"):
        features.vectors(torch.rand(2, *layer.shape), layer)


# -- addresses -------------------------------------------------------------------------------------------------------


def test_an_address_is_a_module_a_block_an_operation_or_an_alias():
    model = untrained("resnet18")
    assert features.resolve(model, "layer1.0.conv2").kind == "Conv2d"
    assert features.resolve(model, "layer1").address == "layer1.1.relu_1"
    assert features.resolve(model, "layer1.0.add").kind == "add"
    assert features.resolve(model, "conv1").address == "relu"  # the alias, though a module has this name
    assert features.resolve(model, "conv2").address == "layer1.1.relu_1"


@pytest.mark.parametrize("address, hint", [("layer1.0.conv3", "layer1.0.conv2"), ("conv9", "conv"), ("Layer1", None)])
def test_an_unknown_address_names_the_nearest(address, hint):
    with pytest.raises(UsageError, match="no layer of resnet18") as error:
        features.resolve(untrained("resnet18"), address)
    assert "mlcli layers" in str(error.value) and (hint is None or f"did you mean {hint}" in str(error.value))


def test_a_unit_is_no_layer():
    with pytest.raises(UsageError, match="conv1:3: names a unit, where a whole layer is wanted"):
        features.resolve(untrained("resnet18"), "conv1:3")


@pytest.mark.parametrize("address", ["", ".", "conv", "layer", "layer1.", "layer1.0.conv2:3"])
def test_a_piece_of_an_address_is_none(address):
    with pytest.raises(UsageError):
        features.resolve(untrained("resnet18"), address)


@pytest.mark.parametrize(
    "name, address, found",
    [
        ("cifarnet", "conv1", "conv1.conv"),
        ("cifarnet", "conv3", "conv3.0.conv"),
        ("cifarnet", "conv3.1", "conv3.1.conv"),
        ("cifarnet", "conv3.1.conv", "conv3.1.conv"),
        ("resnet50", "conv1", "conv1"),
        ("resnet50", "conv3", "layer2.0.conv1"),
        ("vgg16", "conv2", "features.5"),
        ("alexnet", "features.3", "features.3"),
        ("mobilenet_v2", "conv1", "features.0.0"),
        ("mobilenet_v2", "features.1", "features.1.conv.0.0"),
        ("vit_b_16", "conv1", "conv_proj"),
    ],
)
def test_the_convolution_of_an_address(name, address, found):
    model = untrained(name)
    layer = features.convolution(model, address)
    assert layer.address == found
    assert layer.module is model.network.get_submodule(found) and isinstance(layer.module, nn.Conv2d)


@pytest.mark.parametrize("address", ["classifier", "conv1.relu", "pool"])
def test_what_has_no_kernels(model, address):
    with pytest.raises(UsageError, match="no kernels"):
        features.convolution(model, address)


def test_units():
    assert features.split_unit("conv4:12") == ("conv4", 12)
    assert features.split_unit("features.10") == ("features.10", None)
    for wrong in ("conv4:", "conv4:x", "conv4:-1", "conv4:1:2", "conv4:²"):
        with pytest.raises(UsageError, match="a unit is a number"):
            features.split_unit(wrong)


# -- activations -----------------------------------------------------------------------------------------------------


def test_activations_are_those_of_the_network(model):
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    values = Activations(model, ["conv3", "conv1", "conv1.relu", "features"])(pictures)
    expected = {}
    for name in ("conv1.relu", "conv3", "features"):
        module = model.network.get_submodule(name)
        module.register_forward_hook(lambda _, inputs, output, name=name: expected.update({name: output}))
    model(pictures)
    assert list(values) == ["conv3", "conv1", "conv1.relu", "features"]
    for address, name in [("conv3", "conv3"), ("conv1", "conv1.relu"), ("conv1.relu", "conv1.relu")]:
        assert torch.equal(values[address], expected[name])
    assert torch.equal(values["features"], expected["features"])


def test_nothing_past_the_last_layer_is_computed(model):
    known = [layer.address for layer in features.layers(model)]
    activations = Activations(model, ["conv1", "conv2"])
    ran = []
    for name, module in model.network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    activations(torch.rand(1, 3, 32, 32))
    assert ran == known[: known.index(activations.nodes["conv2"]) + 1]


def test_an_operation_between_modules_can_be_heard():
    torch.manual_seed(0)
    model = models.create("resnet18", ["a"], 64)
    model.network.eval()
    values = Activations(model, ["layer1.0.add", "maxpool", "layer1.0.bn2"])(torch.rand(1, 3, 64, 64))
    assert torch.equal(values["layer1.0.add"], values["layer1.0.bn2"] + values["maxpool"])


def test_activations_carry_gradients_to_the_picture(model):
    pictures = torch.rand(1, 3, 40, 48, requires_grad=True)  # any size
    value = Activations(model, ["conv4"])(pictures)["conv4"]
    assert value.shape == (1, 384, 5, 6)
    value.sum().backward()
    assert pictures.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["cifarnet", "resnet18", "googlenet", "vgg11", "mobilenet_v2", "squeezenet1_1"])
def test_signed_values_are_those_the_rectifier_is_given(name):
    torch.manual_seed(0)
    model = models.create(name, ["a", "b"], 64)
    model.network.eval()
    for module in model.network.modules():
        if isinstance(module, nn.Conv2d):  # the start of some networks only copies what is positive
            nn.init.kaiming_normal_(module.weight)
    aliases = [layer.alias for layer in features.layers(model) if layer.alias]
    values = Activations(model, [*aliases, *(alias + features.SIGNED for alias in aliases)])(torch.rand(2, 3, 64, 64))
    for alias in aliases:
        plain, signed = values[alias], values[alias + features.SIGNED]
        assert signed.min() < 0, alias
        if name != "mobilenet_v2":  # whose stages end without a rectifier, or with a ReLU6
            torch.testing.assert_close(signed.clamp_min(0), plain)


def test_no_operation_overwrites_a_value_that_is_asked_for():
    model = models.create("resnet18", ["a", "b"], 32)
    model.network.eval()
    picture = torch.rand(1, 3, 32, 32)
    names = ["layer1.0.bn2", "layer1.0.add", "layer1.0.relu_1", "layer1.0.bn1"]
    together = Activations(model, names)(picture)
    for name in names:
        torch.testing.assert_close(together[name], Activations(model, [name])(picture)[name])
    assert together["layer1.0.add"].min() < 0 and together["layer1.0.bn1"].min() < 0


# -- numbers of units ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, units",
    [
        ("all", list(range(10))),
        ("0-9", list(range(10))),
        ("3", [3]),
        ("7,3,7", [7, 3]),
        ("3, 7,5-8", [3, 7, 5, 6, 8]),
        ("9-9", [9]),
    ],
)
def test_units_by_numbers_and_ranges(text, units):
    model = models.create("cifarnet", range(10), 16)
    assert features.parse_units(text, features.resolve(model, "classifier")) == units


@pytest.mark.parametrize(
    "text, message",
    [
        ("10", "classifier has the units 0 to 9, not 10"),
        ("2,0-10", "classifier has the units 0 to 9, not 0-10"),
        ("5-3", "the range 5-3 runs backwards"),
        *((text, "give all, or numbers and ranges") for text in ("", "a", "-3", "3-", "1,,2", "1.5", "²", "9" * 5000)),
    ],
)
def test_units_that_are_none(text, message):
    model = models.create("cifarnet", range(10), 16)
    with pytest.raises(UsageError, match=message):
        features.parse_units(text, features.resolve(model, "classifier"))


def test_how_many_units_a_layer_has():
    units = {layer.address: layer.units for layer in features.layers(untrained("vit_b_16"))}
    assert units["conv_proj"] == 768 and units["heads.head"] == 1000
    assert units["encoder.layers.encoder_layer_0.mlp"] == 0  # tokens
    layer = features.resolve(untrained("resnet18"), "avgpool")
    assert layer.shape == (512, 1, 1) and features.parse_units("511", layer) == [511]
    with pytest.raises(UsageError, match="neither maps nor a vector"):
        features.parse_units("0", features.resolve(untrained("vit_b_16"), "encoder"))

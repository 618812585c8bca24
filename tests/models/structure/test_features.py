import pytest
import torch
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.features import Activations
from tests.untrained import untrained


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["cat", "dog"], 32)
    model.network.eval()
    return model


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
        features.hidden(Model("line", Linear().eval(), ("a", "b"), Preprocessing(crop=8), "line"))


@pytest.mark.parametrize(
    "name, address, channels, positions",
    [
        ("cifarnet", "conv3", 1, (2, 3)),
        ("cifarnet", "pool", 1, (2, 3)),
        ("alexnet", "avgpool", 1, (2, 3)),  # sees everything and has positions all the same
        ("vit_b_16", "encoder.ln", 2, (1,)),
        ("swin_t", "features.1.0.norm1", 3, (1, 2)),
        ("swin_t", "features.2.reduction", 3, (1, 2)),
        ("swin_t", "flatten", 1, ()),
    ],
)
def test_a_vector_has_the_channels_of_its_layer(name, address, channels, positions):
    layer = features.resolve(untrained(name), address)
    values = torch.rand(2, *layer.shape)
    vectors = features.vectors(values, layer)
    assert vectors.shape == (2, values.shape[channels])
    torch.testing.assert_close(vectors, values.mean(positions) if positions else values)


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


# -- activations -----------------------------------------------------------------------------------------------------


def test_activations_are_those_of_the_network(model):
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    values = Activations(model, ["conv3", "conv1", "conv1.relu", "features"])(images)
    expected = {}
    for name in ("conv1.relu", "conv3", "features"):
        module = model.network.get_submodule(name)
        module.register_forward_hook(lambda _, inputs, output, name=name: expected.update({name: output}))
    model(images)
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
    model = registry.create("resnet18", ["a"], 64)
    model.network.eval()
    values = Activations(model, ["layer1.0.add", "maxpool", "layer1.0.bn2"])(torch.rand(1, 3, 64, 64))
    assert torch.equal(values["layer1.0.add"], values["layer1.0.bn2"] + values["maxpool"])


def test_activations_carry_gradients_to_the_image(model):
    images = torch.rand(1, 3, 40, 48, requires_grad=True)  # any size
    value = Activations(model, ["conv4"])(images)["conv4"]
    assert value.shape == (1, 384, 5, 6)
    value.sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["cifarnet", "resnet18", "googlenet", "vgg11", "mobilenet_v2", "squeezenet1_1"])
def test_signed_values_are_those_the_rectifier_is_given(name):
    torch.manual_seed(0)
    model = registry.create(name, ["a", "b"], 64)
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
    model = registry.create("resnet18", ["a", "b"], 32)
    model.network.eval()
    image = torch.rand(1, 3, 32, 32)
    names = ["layer1.0.bn2", "layer1.0.add", "layer1.0.relu_1", "layer1.0.bn1"]
    together = Activations(model, names)(image)
    for name in names:
        torch.testing.assert_close(together[name], Activations(model, [name])(image)[name])
    assert together["layer1.0.add"].min() < 0 and together["layer1.0.bn1"].min() < 0


# -- architectures of timm -------------------------------------------------------------------------------------------


def kept(modules: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    """What these modules are given, filled when the network runs."""
    given: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        module.register_forward_pre_hook(lambda _, inputs, name=name: given.update({name: inputs[0].clone()}))
    return given


@pytest.mark.parametrize(
    "name, address, act",
    [
        ("timm/test_efficientnet", "blocks.1.0.bn1", "blocks.1.0.bn1.act"),  # one module, norm and activation
        ("timm/test_efficientnet_gn", "blocks.1.0.bn1.act", "blocks.1.0.bn1.act"),
        ("timm/test_efficientnet_ln", "blocks.1.0.bn1.act", "blocks.1.0.bn1.act"),
        ("timm/test_byobnet", "stem", "stem.bn.act"),
        ("timm/test_resnet", "layer1", "layer1.0.act2"),
        ("timm/test_convnext", "stages.0.blocks.0.mlp.act", "stages.0.blocks.0.mlp.act"),
        ("timm/test_vit", "blocks.0.mlp.act", "blocks.0.mlp.act"),
        ("timm/test_nfnet", "stem.act4", "stem.act4"),
        ("efficientnet_lite0", "conv1", "blocks.1.0.bn1.act"),
    ],
)
def test_signed_values_of_timm_are_those_before_the_activation(name, address, act):
    torch.manual_seed(0)
    model = registry.create(name, ["a", "b"], 64 if "test" not in name else 160)
    model.network.eval()
    for parameter in model.network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter)  # branches that begin silent
    images = torch.rand(1, 3, *[model.preprocessing.crop] * 2)
    with torch.inference_mode():
        values = Activations(model, [address, address + features.SIGNED])(images)
        given = kept({act: model.network.get_submodule(act)})
        model(images)
        plain, signed = values[address], values[address + features.SIGNED]
        torch.testing.assert_close(signed, given[act])
        torch.testing.assert_close(plain, model.network.get_submodule(act)(given[act].clone()))
    assert signed.min() < 0 and not torch.equal(plain, signed)


def test_the_network_keeps_the_activation_of_its_norms():
    model = registry.create("timm/test_efficientnet", ["a", "b"], 32)
    act = model.network.bn2.act
    Activations(model, ["bn2" + features.SIGNED])
    assert model.network.bn2.act is act and type(act) is not nn.Identity


def test_layers_of_the_default_model():
    model = registry.create("efficientnet_lite0", ["a", "b"], 224)
    found = {layer.alias: layer for layer in features.layers(model) if layer.alias}
    assert [layer.address for layer in found.values()] == [
        "blocks.1.0.bn1", "blocks.2.0.bn1", "blocks.3.0.bn1", "blocks.5.0.bn1", "bn2",
    ]  # fmt: skip
    assert [layer.stride for layer in found.values()] == [2, 4, 8, 16, 32]
    assert features.hidden(model).address == "global_pool.flatten" and features.head(model).address == "classifier"
    assert features.convolution(model, "conv1").address == "conv_stem"
    assert features.convolution(model, "blocks.2.0").address == "blocks.2.0.conv_pw"


@pytest.mark.parametrize("name", ["timm/test_vit3", "timm/test_convnext", "timm/test_nfnet", "timm/test_maxvit"])
def test_every_parameter_is_of_one_layer(name):
    """Also those of norms and scales that are operations."""
    model = registry.create(name, ["a", "b"], 160)
    found = features.layers(model)
    names = [name for layer in found for name in layer.weights]
    assert sorted(names) == sorted(name for name, _ in model.network.named_parameters())
    assert sum(layer.parameters for layer in found) == sum(p.numel() for p in model.network.parameters())


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_vit_relpos", "timm/test_maxvit", "timm/test_mambaout"])
def test_the_last_layer_gives_the_values_of_the_network(name):
    model = registry.create(name, ["a", "b"], 160)
    model.network.eval()
    images = torch.rand(3, 3, 160, 160)
    last = features.layers(model)[-1].address
    with torch.inference_mode():
        torch.testing.assert_close(Activations(model, [last])(images)[last], model(images))


def test_the_graph_follows_the_network():
    model = registry.create("cifarnet", ["a", "b"], 32)
    first = features.layers(model)
    assert first[0] is features.layers(model)[0], "nothing has changed"
    model.network.conv1.conv = nn.Conv2d(3, 64, 5, padding=2, bias=False)
    assert features.layers(model)[0].receptive_field == 5 != first[0].receptive_field
    model.preprocessing = Preprocessing(crop=64)
    assert features.layers(model)[0].shape == (64, 64, 64)

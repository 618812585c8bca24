"""Where in a network each weight lies."""

import pytest

from mlcli.errors import UsageError
from mlcli.models import registry
from mlcli.models.structure.stages import stages, up_to


def test_the_stages_of_the_embedded_architecture():
    found = stages(registry.create("cifarnet", ("a", "b"), 16))
    assert found["conv1.conv.weight"] == found["conv1.norm.bias"] == 0
    assert found["conv2.0.conv.weight"] == found["conv2.1.norm.weight"] == 1
    assert found["conv5.conv.weight"] == 4 and found["classifier.weight"] == 5


def test_the_stages_of_a_residual_network():
    model = registry.create("resnet18", ("a", "b"), 64)
    found = stages(model)
    assert set(found) == {name for name, _ in model.network.named_parameters()}
    assert found["conv1.weight"] == 0 and found["fc.weight"] == max(found.values())
    assert found["layer1.0.conv1.weight"] <= found["layer2.0.conv1.weight"] < found["layer4.1.conv2.weight"]


def test_up_to_and_including():
    model = registry.create("cifarnet", ("a", "b"), 16)
    names = up_to(model, "conv3")
    assert {name.split(".")[0] for name in names} == {"conv1", "conv2", "conv3"} and "conv3.1.norm.bias" in names
    with pytest.raises(UsageError, match="conv9: no layer"):
        up_to(model, "conv9")


def test_the_stages_of_norms_and_scales_that_are_operations():
    model = registry.create("timm/test_convnext", ("a", "b"), 64)
    found = stages(model)
    assert set(found) == {name for name, _ in model.network.named_parameters()}
    assert found["stem.1.weight"] == 0 and found["stages.0.blocks.0.gamma"] == 0
    assert found["stages.2.blocks.0.norm.weight"] == found["stages.2.blocks.0.conv_dw.weight"] == 2
    assert found["head.norm.weight"] == found["head.fc.weight"] == max(found.values())

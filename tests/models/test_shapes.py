"""Shapes by values and by shapes alone: the same, and values only where they are quickly computed."""

import pytest
import torch
from torch import nn

from mlcli.errors import UsageError
from mlcli.models import building, registry, shapes
from mlcli.models.structure import features
from tests.untrained import translated, untrained


def described(model):
    return [
        (layer.address, layer.alias, layer.shape, layer.field, layer.parameters) for layer in features.layers(model)
    ]


@pytest.mark.parametrize("name", ["cifarnet", "smallnet", "lenet", "lenet-bn", "digits", "behind a generator"])
def test_layers_are_the_same_either_way(monkeypatch, name):
    def made():
        return translated("unet") if name == "behind a generator" else registry.create(name, ("a", "b"), 32)

    assert shapes.by_values(made().network, torch.zeros(1, 3, 32, 32))
    computed = described(made())
    monkeypatch.setattr(shapes, "LIGHT", 0)
    assert described(made()) == computed


def test_a_heavy_network_and_one_elsewhere_are_not_computed():
    image = torch.zeros(1, 3, 224, 224)
    assert not shapes.by_values(untrained("resnet18").network, image)  # on the meta device
    with torch.device("meta"):
        assert not shapes.by_values(nn.Linear(1, 1), image)
    assert shapes.by_values(nn.Conv2d(3, 4, 1), image)
    assert not shapes.by_values(nn.Linear(2000, 2001), image)


@pytest.mark.parametrize("light", [True, False])
def test_a_size_that_does_not_suit_is_refused_either_way(monkeypatch, light):
    if not light:
        monkeypatch.setattr(shapes, "LIGHT", 0)
    network = registry.create("smallnet", ("a", "b"), 32).network
    assert building.check_size(network, "smallnet", 32, 3) == (1, 2)
    with pytest.raises(UsageError, match="--size 2: does not suit smallnet"):
        building.check_size(network, "smallnet", 2, 3)

"""The last layer: found in every kind of network, whatever its position, and replaced."""

import pytest
from torch import nn

from mlcli.models import last_layer, registry
from mlcli.models.structure import features


@pytest.mark.parametrize("name, size", [("cifarnet", 16), ("lenet", 28), ("squeezenet1_1", 64), ("timm/test_vit", 32)])
def test_it_is_the_one_that_the_graph_ends_with(name, size):
    model = registry.create(name, ["a", "b", "c"], size)
    found = last_layer.last_layer(model.network, nn.Linear, nn.Conv2d, outputs=3)
    assert found is features.head(model).module


def test_none_of_these_types():
    assert last_layer.last_layer(nn.Conv2d(3, 4, 1), nn.Linear) is None
    assert last_layer.last_layer(nn.Linear(3, 4), nn.Linear, outputs=5) is None

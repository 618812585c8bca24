"""How deep each weight of a network lies: its place in the order of computation, and its convolutional stage."""

from bisect import bisect_left

from mlcli.models.features import layers, resolve
from mlcli.models.graph import Layer
from mlcli.models.model import Model


def stages(model: Model) -> dict[str, int]:
    """Name of each parameter: how many stages are complete before it, 0 in conv1 up to their number past the last."""
    order = layers(model)
    ends = [place for place, layer in enumerate(order) if layer.alias]
    return {name: bisect_left(ends, place) for name, place in _places(model, order).items()}


def up_to(model: Model, address: str) -> set[str]:
    """The names of the parameters up to and including a layer. Raises UsageError where there is no such layer."""
    order = layers(model)
    last = [layer.address for layer in order].index(resolve(model, address).address)
    return {name for name, place in _places(model, order).items() if place <= last}


def _places(model: Model, order: list[Layer]) -> dict[str, int]:
    """Name of each parameter: the place of the layer that uses it first in the order; 0 for what none is seen to."""
    place_of = {name: place for place, layer in enumerate(order) for name in layer.weights}
    return {name: place_of.get(name, 0) for name, _ in model.network.named_parameters()}

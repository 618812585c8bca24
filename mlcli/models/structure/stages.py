"""The depth of each weight of a network: its index in the order of computation, and its convolutional stage."""

from bisect import bisect_left

from mlcli.models.model import Model
from mlcli.models.structure.features import layers, resolve
from mlcli.models.structure.graph import Layer


def stages(model: Model) -> dict[str, int]:
    """Name of each parameter: how many stages are complete before it, 0 in conv1 up to their number past the last."""
    order = layers(model)
    ends = [index for index, layer in enumerate(order) if layer.alias]
    return {name: bisect_left(ends, index) for name, index in _indices(model, order).items()}


def up_to(model: Model, address: str) -> set[str]:
    """The names of the parameters up to and including a layer. Raises UsageError where there is no such layer."""
    order = layers(model)
    last = [layer.address for layer in order].index(resolve(model, address).address)
    return {name for name, index in _indices(model, order).items() if index <= last}


def _indices(model: Model, order: list[Layer]) -> dict[str, int]:
    """Name of each parameter: the index in the order of the layer that uses it first; 0 where no layer uses it."""
    index_of = {name: index for index, layer in enumerate(order) for name in layer.weights}
    return {name: index_of.get(name, 0) for name, _ in model.network.named_parameters()}

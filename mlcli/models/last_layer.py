"""The last layer of a network, which gives the values of the classes: found, and replaced for other classes."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from mlcli.data.class_names import ClassNames
from mlcli.models import building
from mlcli.models.model import Model


def last_layer(network: nn.Module, *types: type[nn.Module], outputs: int | None = None) -> nn.Module | None:
    """The last module of these types in the order of definition, or the last with so many `outputs`; None if none is.

    It is what gives the logits in the networks of every source here.
    """
    found = [
        module
        for module in network.modules()
        if isinstance(module, types) and (outputs is None or _outputs(module) == outputs)
    ]
    return found[-1] if found else None


def _outputs(layer: nn.Module) -> int:
    """The number of outputs of a linear layer or convolution."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return len(weight)


def untrained(model: Model, classes: Sequence[str]) -> Model:
    """A model of the same architecture and preprocessing for these classes, with random weights."""
    options = {name: value for name, value in model.options.items() if name != "num_classes"}
    if "aux_logits" in options:
        options["aux_logits"] = False  # heads that serve training, and know other classes
    network, names = building.network(model.architecture, len(classes), options), ClassNames.of(classes)
    return replace(model, network=network, classes=names.labels, wnids=names.wnids, weights_file=None, options=options)


def with_classes(model: Model, classes: Sequence[str]) -> Model:
    """The model with a last layer for these classes, of random weights; below it the model's own."""
    result = untrained(model, classes)
    fresh = shapes = result.network.state_dict()
    if len(classes) == len(model.classes):  # shapes tell the last layer only where the number of classes changes
        shapes = untrained(model, [*classes, "one more"]).network.state_dict()
    known = model.network.state_dict()
    kept = {name: t for name, t in known.items() if name in shapes and t.shape == shapes[name].shape}
    result.network.load_state_dict(fresh | kept)
    return result

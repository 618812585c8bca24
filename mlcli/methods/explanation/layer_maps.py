"""Layers whose values have positions in the image: maps, and the tokens of transformers."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx

from mlcli.errors import UsageError
from mlcli.methods.visualization.objectives import Objective
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.features import Activations
from mlcli.models.structure.graph import Layer
from mlcli.runtime.random_streams import rng

MOST_PREFIX = 8  # tokens before those of the positions: of the class, of distillation, registers


def grid(layer: Layer) -> tuple[int, int] | None:
    """(rows, columns) of the positions of a layer's values; None where there is no more than one, or none is known.

    Tokens (T, K) are those of a square of positions, row by row, behind at most MOST_PREFIX others.
    """
    if layer.is_map:
        rows, columns = layer.shape[1:]
    elif layer.channels_last and len(layer.shape) == 3:
        rows, columns = layer.shape[:2]
    elif len(layer.shape) == 2:
        rows = columns = math.isqrt(layer.shape[0])
        if layer.shape[0] - rows * columns > MOST_PREFIX:
            return None
    else:
        return None
    return (rows, columns) if rows * columns > 1 else None


def as_maps(values: Tensor, layer: Layer) -> Tensor:
    """The values of a layer with a `grid` (N, ...) -> (N, K, rows, columns)."""
    if layer.is_map:
        return values
    if values.ndim == 4:
        return values.movedim(-1, 1)
    found = grid(layer)
    assert found is not None
    tokens = values[:, values.shape[1] - found[0] * found[1] :]
    return tokens.movedim(-1, 1).unflatten(2, found)


def resolve(model: Model, name: str) -> Layer:
    """The layer of this name. Raises UsageError where its values have no positions in the image."""
    layer = features.resolve(model, name)
    if grid(layer) is None:
        raise UsageError(
            f"--layer {name}: its values have no positions in the image, which a class-activation map needs; "
            "`mlcli layers` lists others"
        )
    return layer


def last_layer(model: Model) -> Layer:
    """The last layer with positions that the answer depends on: the last maps of a network of convolutions.

    In a transformer whose class is read from a token of its own, the other tokens after the last attention are of no
    account. The layer is the norm before it then, as practitioners take it for Grad-CAM.
    Raises UsageError where there is none.
    """
    layers = features.layers(model)
    found = [layer for layer in layers[:-1] if grid(layer) is not None]
    tokens = [layer for layer in found if len(layer.shape) == 2 and "norm" in layer.kind.lower()]
    maps = [layer for layer in found if len(layer.shape) == 3]
    if tokens and (not maps or layers.index(maps[-1]) < layers.index(tokens[-1])):
        for layer in reversed(tokens):
            if _matters(model, layer):
                return layer
    if not maps:
        raise UsageError(
            f"--model {model.name}: none of its layers has positions in the image; take another method, such as "
            "integrated-gradients"
        )
    return maps[-1]


def require_later(model: Model, layer: Layer, objectives: Sequence[Objective]) -> None:
    """Raise UsageError for an objective all of whose layers are before this one, on which it cannot depend."""
    order = [each.address for each in features.layers(model)]
    for objective in objectives:
        last = max(order.index(term.layer.address) for _, term in objective.terms if term.layer is not None)
        if last < order.index(layer.address):
            raise UsageError(
                f"--layer {layer.alias or layer.address}: {objective} does not depend on it; name an earlier layer"
            )


def gradients_from(activations: Activations, address: str) -> None:
    """Let the values of this layer be where gradients begin: what is before it keeps nothing for them."""
    graph = activations.extractor.graph
    values = cast(dict[str, fx.Node], graph.output_node().args[0])  # as `Trace.module` makes it
    node = values[activations.nodes[address]]
    with graph.inserting_after(node):
        leaf = graph.call_function(_leaf, (node,))
    node.replace_all_uses_with(leaf, delete_user_cb=lambda user: user is not leaf)
    activations.extractor.recompile()


def _leaf(values: Tensor) -> Tensor:
    return values.detach().requires_grad_()


def _matters(model: Model, layer: Layer) -> bool:
    """Whether the network's answer depends on the values at the positions of a layer, and not on other tokens alone."""
    last = features.layers(model)[-1]
    activations = Activations(model, [layer.address, last.address])
    gradients_from(activations, layer.address)
    weight = next(iter(model.network.parameters()))
    side = model.preprocessing.crop
    image = torch.rand(1, model.preprocessing.channels, side, side, generator=rng(0, "explain/positions"))
    values = activations(image.to(weight.device))
    (gradient,) = torch.autograd.grad(values[last.address].square().sum(), values[layer.address])
    return bool(as_maps(gradient, layer).any())

"""Layers of a network by address, and their activations.

An address is a node of the network's graph: a module (`features.10`, `layer1.0.conv2`), a whole block (`layer1`, its
last node) or an operation between modules (`layer1.0.add`). The aliases conv1, conv2, ... stand on every model for
the end of its first to last convolutional stage. Where a network has a module of such a name too (`conv1` of a
ResNet), the alias is meant, and `conv1@address` is the module. With `@signed` behind it an address means the values
before the ReLU that ends the layer, which tell how strongly a unit is against something; timm's norms may end with an
activation, which is left out as well.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, fx, nn

from mlcli.errors import UsageError
from mlcli.models.model import Model, logits
from mlcli.models.structure.graph import ADDRESS, Layer, graph_of, operation, shapes_for
from mlcli.models.structure.receptive_fields import ALL, steps
from mlcli.models.structure.tracing import keep_values, target_name

SIGNED = "@signed"
# What ends a layer and forgets the sign, or nearly so: modules (by class) and operations
RECTIFIERS = frozenset(
    "ReLU ReLU6 LeakyReLU PReLU ELU CELU SELU GELU SiLU Mish Hardswish Hardtanh Softplus Sigmoid Hardsigmoid "
    "relu relu6 leaky_relu prelu elu celu selu gelu silu mish hardswish hardtanh softplus sigmoid hardsigmoid".split()
)
PASSED = frozenset("Dropout Dropout2d dropout contiguous drop_path".split())  # of no account outside training
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)


def layers(model: Model) -> list[Layer]:
    """Every layer of the model in the order of computation, with the aliases of the stages."""
    return list(graph_of(model).layers)


def resolve(model: Model, address: str) -> Layer:
    """The layer of an address or alias; a block is its last node. Raises UsageError with the nearest names."""
    return graph_of(model).resolve(address.removesuffix(SIGNED))


def hidden_by(model: Model, alias: str) -> Layer | None:
    """The layer whose address is the same name as an alias of another layer; None where there is none."""
    return graph_of(model).hidden_by(alias)


def convolution(model: Model, address: str) -> Layer:
    """The convolution that an address means: itself, or the first one of the stage or block that it names.

    Raises UsageError where there is none.
    """
    graph = graph_of(model)
    name = address.removesuffix(SIGNED)
    target, own = graph.resolve(name), name.removesuffix(ADDRESS)
    inside = [layer for layer in graph.layers if layer.address == own or layer.address.startswith(own + ".")]
    if target.alias == name:
        ends = [index for index, layer in enumerate(graph.layers) if layer.alias]
        last = graph.layers.index(target)
        inside = graph.layers[max((end + 1 for end in ends if end < last), default=0) : last + 1]
    for layer in inside:
        for name, module in steps(layer.module):
            if isinstance(module, nn.Conv2d):
                return replace(layer, address=".".join(filter(None, (layer.address, name))), module=module)
    raise UsageError(f"--layer {address}: {target.kind} has no kernels; name a convolution (see `mlcli layers`)")


def hidden(model: Model) -> Layer:
    """The last hidden layer: what the last linear layer, or a head that is a convolution, is given.

    Dropout, which does nothing outside training, is passed over. Raises UsageError where there is none.
    """
    return graph_of(model).ends()[0]


def head(model: Model) -> Layer:
    """The last layer: linear, or a convolution, it gives the values of the classes. Raises UsageError where none is."""
    return graph_of(model).ends()[1]


def vectors(values: Tensor, layer: Layer) -> Tensor:
    """Activations of a layer (N, ...) -> one vector for each image (N, D), D the channels of the layer.

    A map, and a layer of tokens, is averaged over its positions: the result is the same wherever an object is.
    Raises UsageError where it cannot be told which dimension holds the channels.
    """
    if values.ndim == 2:
        return values
    if values.ndim == 3:
        return values.mean(1)  # tokens (N, T, C)
    if values.ndim == 4:
        return values.mean((1, 2) if layer.channels_last else (2, 3))
    raise UsageError(
        f"--layer {layer.address}: neither a map nor a vector, but {tuple(values.shape[1:])}; take another"
    )


class HeadInputs:
    """What the last linear layer is given, of any network that ends with it, whether or not it can be traced.

    hidden: what it is given, as a layer.  head: the layer itself.
    """

    def __init__(self, model: Model):
        """Raises UsageError where the values of the classes do not come from one linear layer."""
        self.model = model
        try:
            graph = graph_of(model)
            self.hidden, self.head = graph.ends()
            alone = graph.alone(self.head)
        except UsageError:
            self.hidden, self.head = _heard_ends(model)
            self.compute, alone = self._heard, True
        else:
            self.activations = Activations(model, [self.hidden.address])
            self.compute = lambda images: self.activations(images)[self.hidden.address]
        linear = isinstance(self.head.module, nn.Linear) and self.head.module.bias is not None
        if not linear or not alone or len(self.hidden.shape) != 1:
            raise UsageError(
                f"--model {model.name}: its last layer, {self.head.address}, is no linear one with a bias, of one "
                "vector for each image; take another model"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> (N, D)."""
        return self.compute(images)

    def _heard(self, images: Tensor) -> Tensor:
        given: list[Tensor] = []
        assert self.head.module is not None  # a linear layer
        handle = self.head.module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        try:
            self.model.network(self.model.normalized(images))
        finally:
            handle.remove()
        return given[-1]


def _heard_ends(model: Model) -> tuple[Layer, Layer]:
    """(the last hidden layer, the last layer) of a network that cannot be traced, heard while it runs on shapes alone.

    The last layer is the linear one whose result is that of the network. Raises UsageError where there is none.
    """
    network, heard = model.network, []
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    handles = [
        module.register_forward_hook(lambda _, inputs, result, name=name: heard.append((name, inputs[0], result)))
        for name, module in linear.items()
    ]
    try:
        result = logits(shapes_for(model, network))
    finally:
        for handle in handles:
            handle.remove()
    for name, given, told in heard:
        if told is result:
            head = linear[name]
            size = sum(parameter.numel() for parameter in head.parameters())
            return (
                Layer(f"{name} (input)", "input", tuple(given.shape[1:]), ALL, 0, False),
                Layer(name, type(head).__name__, tuple(told.shape[1:]), ALL, size, False, module=head),
            )
    raise UsageError(f"--model {model.name}: its classes do not come from one linear layer; take another model")


class Activations:
    """The activations of some layers of a model; nothing past the last of them is computed."""

    def __init__(self, model: Model, addresses: Sequence[str]):
        graph = graph_of(model)
        self.model = model
        # Several addresses may mean one node (an alias beside its address); it is computed once.
        self.nodes = {
            a: graph.resolve(a.removesuffix(SIGNED)).address + (SIGNED if a.endswith(SIGNED) else "") for a in addresses
        }
        node_of = {layer.address: node for node, layer in graph.layer_of.items()}
        plain = {address: node_of[address.removesuffix(SIGNED)] for address in self.nodes.values()}
        self.extractor = graph.trace.module(plain)
        _without_rectifiers(self.extractor)
        keep_values(self.extractor)

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """(N, C, H, W), uint8 or float in [0, 1] -> address: activations (N, ...)."""
        values = self.extractor.forward(self.model.normalized(images))
        return {address: values[node] for address, node in self.nodes.items()}


class LayerVectors(nn.Module):
    """Normalized images (N, C, H, W) -> the vectors (N, D) of a layer; nothing past the layer is computed."""

    def __init__(self, model: Model, layer: Layer):
        super().__init__()
        activations = Activations(model, [layer.address])
        self.extractor, self.node, self.layer = activations.extractor, activations.nodes[layer.address], layer

    def forward(self, images: Tensor) -> Tensor:
        return vectors(self.extractor.forward(images)[self.node].float(), self.layer)


def _without_rectifiers(extractor: fx.GraphModule) -> None:
    """Give the values whose names have the suffix `signed` as they are before their rectifier."""
    graph, output = extractor.graph, extractor.graph.output_node()

    def replaced(node: fx.Node, module: nn.Module) -> fx.Node:
        name = f"{node.name}_unrectified"
        extractor.add_submodule(name, module)
        with graph.inserting_before(output):
            return graph.call_module(name, node.args, node.kwargs)

    def before(node: fx.Node) -> fx.Node:
        module = extractor.get_submodule(target_name(node)) if node.op == "call_module" else None
        kind = (type(module).__name__ if module is not None else operation(node)).rstrip("_")
        if kind in RECTIFIERS:
            return node.all_input_nodes[0]
        if kind in PASSED:
            return before(node.all_input_nodes[0])
        if isinstance(module, nn.Sequential) and type(module[-1]).__name__ in RECTIFIERS:
            return replaced(node, nn.Sequential(*list(module)[:-1]))
        if isinstance(module, NORMS) and isinstance(getattr(module, "act", None), nn.Module):
            return replaced(node, _without_activation(module))
        if kind == "cat":  # an Inception block's end: its branches, each before its own
            with graph.inserting_before(output):
                return graph.node_copy(node, before)
        return node

    values = cast(dict[str, fx.Node], output.args[0])  # as `Trace.module` makes it
    output.args = ({name: before(n) if name.endswith(SIGNED) else n for name, n in values.items()},)
    graph.eliminate_dead_code()
    extractor.recompile()


def _without_activation(norm: nn.Module) -> nn.Module:
    """One of timm's norms that end with an activation, without it; its weights are shared."""
    shared = {id(tensor): tensor for tensor in (*norm.parameters(), *norm.buffers())}
    result = copy.deepcopy(norm, shared)
    result.act = nn.Identity()
    return result

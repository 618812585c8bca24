"""The graph of a network: its nodes as layers, their shapes, receptive fields and stages."""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from mlcli.errors import UsageError, did_you_mean, reason
from mlcli.models.model import Model
from mlcli.models.shapes import by_values, on_shapes
from mlcli.models.structure.receptive_fields import (
    PIXEL,
    WHOLE,
    ReceptiveField,
    Step,
    pads_with_content,
    receptive_field,
    steps,
    union,
)
from mlcli.models.structure.tracing import Trace, target_name
from mlcli.networks.translated import Translated

__all__ = ["WHOLE"]  # as others here name it

ADDRESS = "@address"  # behind a name: the address is meant, and not the alias of the same name


@dataclasses.dataclass
class Layer:
    """One node of the graph, at the model's input size.

    shape: without the batch; (C, H, W) where `is_map`. field: of the units. channels_last: whether the channels are the
    last dimension, and all dimensions between the batch and them are positions. weights: names of the parameters that
    are first used here.
    """

    address: str
    kind: str
    shape: tuple[int, ...]
    field: ReceptiveField
    parameters: int
    is_map: bool
    alias: str = ""
    channels_last: bool = False
    module: nn.Module | None = dataclasses.field(default=None, repr=False)
    weights: tuple[str, ...] = dataclasses.field(default=(), repr=False)

    @property
    def receptive_field(self) -> float:
        """The larger side of a receptive field in input pixels; `WHOLE` where a unit sees the whole image."""
        return max(self.field.height, self.field.width)

    @property
    def stride(self) -> float:
        """Distance of neighboring units in input pixels; `WHOLE` where a unit sees the whole image."""
        return self.field.stride

    @property
    def units(self) -> int:
        """Number of units: the channels of a map or the entries of a vector; 0 for other layers (tokens)."""
        vector = len(self.shape) > 0 and math.prod(self.shape) == self.shape[0]
        return self.shape[0] if self.is_map or vector else 0

    def box(self, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the pixels that the unit at this position sees of an image (height, width)."""
        field = self.field
        if WHOLE in field:
            return 0, 0, width, height
        top, left = field.top + row * field.stride, field.left + column * field.stride
        bottom, right = math.ceil(top + field.height), math.ceil(left + field.width)
        # For a unit that sees the padding alone, the nearest pixel counts
        top, left = min(max(0, math.floor(top)), height - 1), min(max(0, math.floor(left)), width - 1)
        return left, top, max(left + 1, min(width, right)), max(top + 1, min(height, bottom))


class Graph:
    """The nodes of a model's graph as layers. Their tensors are on the meta device: shapes alone.

    Raises UsageError where the network cannot be traced.
    """

    def __init__(self, model: Model) -> None:
        self.name, self.crop = model.name, model.preprocessing.crop
        self.trace = trace = Trace(model.network, model.name)
        self.values = self._values(model)
        self.fields: dict[fx.Node, ReceptiveField] = {}
        self.layers: list[Layer] = []
        self.nodes: list[fx.Node] = []
        known = {id(parameter): name for name, parameter in model.network.named_parameters()}
        for node, address in trace.addresses.items():
            module = trace.module_of(node)
            if node.op == "placeholder":
                self.fields[node] = PIXEL
            step = self._step(node, module)
            if step is None:
                continue
            self.fields[node] = field = receptive_field(step)
            value = self.values[node]
            if not isinstance(value, Tensor):
                continue
            if pads_with_content(step):
                field = field.everywhere()
            new = [known.pop(id(p)) for p in self._parameters(node, module) if id(p) in known]
            self.layers.append(
                Layer(
                    address,
                    step.kind,
                    tuple(value.shape[1:]),
                    field,
                    sum(model.network.get_parameter(name).numel() for name in new),
                    value.ndim == 4 and field.planes and field.stride != WHOLE,
                    channels_last=not field.planes,
                    module=module,
                    weights=tuple(new),
                )
            )
            self.nodes.append(node)
        self.layer_of = dict(zip(self.nodes, self.layers, strict=True))
        for number, layer in enumerate(self._stages(model.network), 1):
            layer.alias = f"conv{number}"

    def _values(self, model: Model) -> dict[fx.Node, Any]:
        """The value of every node for one image of the model's size, as tensors on the meta device."""
        nodes = {str(number): node for number, node in enumerate(self.trace.addresses)}
        module = self.trace.module(nodes)
        if not by_values(module, _image(model)):
            for node in module.graph.nodes:  # tensors that the code creates are put on the meta device too
                node.args, node.kwargs = (fx.node.map_aggregate(given, _on_meta) for given in (node.args, node.kwargs))
            module.recompile()
        values = fx.node.map_aggregate(shapes_for(model, module), _without_numbers)
        return {node: values[number] for number, node in nodes.items()}

    def _parameters(self, node: fx.Node, module: nn.Module | None) -> list[nn.Parameter]:
        """The parameters of a node's module, or those that enter its operation."""
        if module is not None:
            return list(module.parameters())
        found: list[nn.Parameter] = []
        visited: set[fx.Node] = set()
        ahead = list(node.all_input_nodes)
        while ahead:
            source = ahead.pop()
            if source in visited or source in self.fields:
                continue
            visited.add(source)
            if source.op in ("get_attr", "call_module"):
                part = self.trace.parts[target_name(source)]
                if isinstance(part, nn.Module):
                    found += part.parameters()
                elif isinstance(part, nn.Parameter):
                    found.append(part)
            ahead += source.all_input_nodes
        return found

    def resolve(self, name: str) -> Layer:
        """The layer of an alias or address, in this order; a block is its last node.

        With `@address` behind the name, no alias is meant. Raises UsageError with the nearest names.
        """
        if ":" in name:
            raise UsageError(f"{name}: names a unit, where a whole layer is wanted; leave out all from the colon on")
        address = name.removesuffix(ADDRESS)
        layer = (self._of_alias(name) if address == name else None) or self._of_address(address)
        if layer is not None:
            return layer
        known = dict.fromkeys(name for layer in self.layers for name in (layer.alias, layer.address) if name)
        near = did_you_mean(address, list(known))
        raise UsageError(f"{name}: no layer of {self.name}{near}; `mlcli layers` lists them")

    def hidden_by(self, alias: str) -> Layer | None:
        """The layer whose address is the same name as an alias of another layer; None where there is none."""
        stage, layer = self._of_alias(alias), self._of_address(alias)
        return None if stage is None or layer is stage else layer

    def _of_alias(self, name: str) -> Layer | None:
        return next((layer for layer in self.layers if layer.alias == name != ""), None)

    def _of_address(self, address: str) -> Layer | None:
        """The layer of an address, or the last node of a block."""
        own = [layer for layer in self.layers if layer.address == address]
        inside = own or [layer for layer in self.layers if layer.address.startswith(address + ".")]
        return inside[-1] if inside else None

    def ends(self) -> tuple[Layer, Layer]:
        """(the last hidden layer, the last layer)."""
        for node, layer in reversed(self.layer_of.items()):
            if any(isinstance(step, (nn.Linear, nn.Conv2d)) for _, step in steps(layer.module)):
                before = node.all_input_nodes[0]
                while before in self.layer_of and self.layer_of[before].kind.lower() == "dropout":
                    before = before.all_input_nodes[0]
                if before in self.layer_of:
                    return self.layer_of[before], layer
        raise UsageError(f"{self.name}: has no hidden layer before its last linear one; name one with --layer")

    def alone(self, layer: Layer) -> bool:
        """Whether the classes depend on the values of this layer alone, which is not so in a network with two heads."""
        nodes = list(self.fields)
        start = nodes.index(next(node for node, other in self.layer_of.items() if other is layer))
        past = set(nodes[:start])
        return not any(source in past for node in nodes[start + 1 :] for source in node.all_input_nodes)

    def _step(self, node: fx.Node, module: nn.Module | None) -> Step | None:
        """A node and its inputs; None where its values do not depend on the image."""
        inputs = [source for source in node.all_input_nodes if source in self.fields]
        value = _first_tensor(self.values[node])
        if not inputs or value is None:
            return None

        def argument(position: int, name: str, default: Any) -> Any:
            given = node.args[position] if position < len(node.args) else node.kwargs.get(name, default)
            return fx.node.map_arg(given, lambda source: self.values.get(source))

        return Step(
            node,
            module,
            type(module).__name__ if module is not None else operation(node),
            union([self.fields[source] for source in inputs]),
            [tensor for source in inputs if (tensor := _first_tensor(self.values[source])) is not None],
            value,
            argument,
            self.crop,
        )

    def _stages(self, network: nn.Module) -> list[Layer]:
        """The last layer of each convolutional stage.

        A network may name the blocks that are its stages, in `stages`. Otherwise a stage holds the convolutions of one
        stride; a network with at most five convolutions (AlexNet) has a stage for each. A stage ends with the last
        layer before the next reduction of the map that all paths pass through: the last ReLU of a VGG block, the sum
        that ends a ResNet layer, and never a branch beside a shortcut. Convolutions of the head (SqueezeNet) and of a
        generator before the network do not count.
        """
        before = ""
        if isinstance(network, Translated):
            network, before = network.network, "network."
        if isinstance(stages := getattr(network, "stages", None), tuple):
            return [self.resolve(before + stage) for stage in stages]
        head = before + "classifier"
        own = [(i, layer.address) for i, layer in enumerate(self.layers) if layer.is_map]
        maps = [i for i, address in own if address.startswith(before) and not address.startswith(head)]
        convolutions = [i for i in maps if any(isinstance(m, nn.Conv2d) for _, m in steps(self.layers[i].module))]
        each, passages = len(convolutions) <= 5, self.passages()
        ends: list[int] = []
        stage = 0.0
        for i in maps:
            stride = self.layers[i].stride
            if i in convolutions and (each or stride > stage):
                stage = stride
                ends.append(i)
            elif ends and stride == stage and i in passages:
                ends[-1] = i
        return [self.layers[i] for i in ends]

    def passages(self) -> set[int]:
        """The indices of the layers that no connection bypasses: all paths to the end pass through them."""
        order = {node: index for index, node in enumerate(self.fields)}
        found, open_until = set(), -1
        layer_of = {node: i for i, node in enumerate(self.nodes)}
        for node, index in order.items():
            if open_until <= index and node in layer_of:
                found.add(layer_of[node])
            open_until = max([open_until, *(order[user] for user in node.users if user in order)])
        return found


def graph_of(model: Model) -> Graph:
    """The graph of a model: traced once, and again only where its network or its input size has changed."""
    network, preprocessing = model.network, model.preprocessing
    parts = [*network.modules(), *network.parameters(), *network.buffers()]
    # The code creates tensors on the device on which the network was traced
    device = next((parameter.device for parameter in network.parameters()), None)
    state = [preprocessing.crop, preprocessing.channels, device, *map(id, parts)]
    if model.traced is None or model.traced[0] != state:
        model.traced = None  # frees the former graph before a second one is made
        model.traced = state, Graph(model)
    return model.traced[1]


def _on_meta(argument: Any) -> Any:
    return torch.device("meta") if isinstance(argument, torch.device) else argument


def _without_numbers(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


def _image(model: Model) -> Tensor:
    """An image of the model's size, in the type and on the device of its weights."""
    types = {(tensor.dtype, tensor.device) for tensor in model.network.parameters()}
    (dtype, device), size = next(iter(types), (torch.float32, torch.device("cpu"))), model.preprocessing.crop
    return torch.zeros(1, model.preprocessing.channels, size, size, device=device, dtype=dtype)


def shapes_for(model: Model, module: nn.Module) -> Any:
    """The result of a module of the model for one image of its size; on shapes alone where the module allows that.

    Raises UsageError where the module does not accept such an image.
    """
    module, image = _Called(module), _image(model)
    try:
        with torch.inference_mode():
            try:
                return on_shapes(module, image)
            except (RuntimeError, NotImplementedError):
                return module(image)  # some part of it needs values
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise UsageError(
            f"--model {model.name}: its layers cannot be identified ({reason(error)}); take another"
        ) from None


class _Called(nn.Module):
    """Calls the `forward` of a module of torch.fx, which prints errors when the module itself is called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        return self.module.forward(x)


def _first_tensor(value: object) -> Tensor | None:
    """The value of a node, or the first of several (parts of a `chunk` have one shape); None for numbers and shapes."""
    if isinstance(value, (tuple, list)):
        return next(filter(lambda part: part is not None, map(_first_tensor, value)), None)
    return value if isinstance(value, Tensor) else None


def operation(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))

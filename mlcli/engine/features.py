"""Layers of a network by address, what they look like, and their activations.

An address is a node of the network's graph: a module (`features.10`, `layer1.0.conv2`), a whole block (`layer1`, its
last node) or an operation between modules (`layer1.0.add`). The aliases conv1, conv2, ... stand on every model for
the end of its first to last convolutional stage. Where a network has a module of such a name too (`conv1` of a
ResNet), the alias is meant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from mlcli.engine.models import Model, nearest
from mlcli.errors import UsageError

SLIDING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
# LayerNorm as torchvision has it: over the channels
PLACEWISE = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU, nn.Dropout, nn.Linear)
WHOLE = math.inf  # the receptive field of what sees the whole picture


@dataclass
class Layer:
    """One node of the graph, at the model's input size.

    shape: without the batch; (C, H, W) where `is_map`. receptive_field, stride: in input pixels, the larger of the
    two sides, `WHOLE` where a unit sees everything. channels_last: the channels are the last dimension, and whatever
    is between them and the batch are places.
    """

    address: str
    kind: str
    shape: tuple[int, ...]
    receptive_field: float
    stride: float
    parameters: int
    is_map: bool
    alias: str = ""
    channels_last: bool = False
    module: nn.Module | None = field(default=None, repr=False)


def layers(model: Model) -> list[Layer]:
    """Every layer of the model in the order of computation, with the aliases of the stages."""
    return _Graph(model).layers


def resolve(model: Model, address: str) -> Layer:
    """The layer of an address or alias; a block is its last node. Raises UsageError with the nearest names."""
    return _Graph(model).resolve(address)


def convolution(model: Model, address: str) -> Layer:
    """The convolution that an address means: itself, or the first one of the stage or block that it names.

    Raises UsageError where there is none.
    """
    graph = _Graph(model)
    target = graph.resolve(address)
    inside = [layer for layer in graph.layers if layer.address == address or layer.address.startswith(address + ".")]
    if target.alias == address:
        ends = [index for index, layer in enumerate(graph.layers) if layer.alias]
        last = graph.layers.index(target)
        inside = graph.layers[max((end + 1 for end in ends if end < last), default=0) : last + 1]
    for layer in inside:
        for name, module in _steps(layer.module):
            if isinstance(module, nn.Conv2d):
                return replace(layer, address=".".join(filter(None, (layer.address, name))), module=module)
    raise UsageError(f"--layer {address}: {target.kind} has no kernels; name a convolution (see `mlcli layers`)")


def hidden(model: Model) -> Layer:
    """The last hidden layer: what the last linear layer, or a head that is a convolution, is given.

    Dropout, which does nothing outside training, is passed over. Raises UsageError where there is none.
    """
    return _Graph(model).hidden()


def vectors(values: Tensor, layer: Layer) -> Tensor:
    """Activations of a layer (N, ...) -> one vector for each picture (N, D), D the channels of the layer.

    A map, and a layer of tokens, is averaged over its places: where in the picture a thing is makes no difference.
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


def split_unit(address: str) -> tuple[str, int | None]:
    """`conv4:12` -> (conv4, 12), `conv4` -> (conv4, None). Raises UsageError for what is no number of a unit."""
    layer, colon, unit = address.partition(":")
    if not colon:
        return layer, None
    if not (unit.isascii() and unit.isdigit()):
        raise UsageError(f"--layer {address}: a unit is a number, as in {layer}:12")
    return layer, int(unit)


class Activations:
    """The activations of some layers of a model; nothing past the last of them is computed."""

    def __init__(self, model: Model, addresses: Sequence[str]):
        graph = _Graph(model)
        self.model = model
        # Several addresses may mean one node (an alias beside its address); the extractor takes each node once.
        self.nodes = {address: graph.resolve(address).address for address in addresses}
        self.extractor = _extractor(model.network, dict.fromkeys(self.nodes.values()))

    def __call__(self, pictures: Tensor) -> Mapping[str, Tensor]:
        """(N, C, H, W), uint8 or float in [0, 1] -> address: activations (N, ...)."""
        values = self.extractor(self.model.normalised(pictures))
        return {address: values[node] for address, node in self.nodes.items()}


# -- the graph -----------------------------------------------------------------------------------------------


def _extractor(network: nn.Module, addresses: Sequence[str]) -> fx.GraphModule:
    """The network cut down to what the nodes of these addresses need; address: value."""
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = {address: address for address in addresses}
    return create_feature_extractor(network, nodes, suppress_diff_warning=True).eval()


class _Reach(NamedTuple):
    """Of the input, what one value of a node sees: its receptive field and the stride to its neighbour, in pixels.

    planes: whether height and width are the last two dimensions (else the last is the channels).
    """

    height: float
    width: float
    stride: float
    planes: bool = True


ALL = _Reach(WHOLE, WHOLE, WHOLE)


class _Graph:
    """The nodes of a model's graph as layers. No value is computed: tensors on the meta device have shapes alone."""

    def __init__(self, model: Model):
        from torchvision.models.feature_extraction import get_graph_node_names

        self.model = model
        network = model.network
        _, names = get_graph_node_names(network, suppress_diff_warning=True)
        extractor = _extractor(network, names)
        crop, channels = model.preprocessing.crop, model.preprocessing.channels
        weights = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
        picture = torch.empty(1, channels, crop, crop, device="meta", dtype=next(network.parameters()).dtype)
        with torch.inference_mode():
            values = functional_call(extractor, weights, picture)
        nodes: dict[str, fx.Node] = extractor.graph.output_node().args[0]
        self.values = {node: _first_tensor(values[name]) for name, node in nodes.items()}
        self.reaches: dict[fx.Node, _Reach] = {}
        self.layers: list[Layer] = []
        self.nodes: list[fx.Node] = []
        for name, node in nodes.items():
            module = extractor.get_submodule(node.target) if node.op == "call_module" else None
            reach = self._reach(node, module, crop)
            if reach is None:
                continue
            self.reaches[node] = reach
            if node.op == "placeholder" or not isinstance(values[name], Tensor):
                continue
            self.layers.append(
                Layer(
                    name,
                    type(module).__name__ if module is not None else _operation(node),
                    tuple(values[name].shape[1:]),
                    max(reach.height, reach.width),
                    reach.stride,
                    sum(p.numel() for p in module.parameters()) if module is not None else 0,
                    values[name].ndim == 4 and reach.planes and reach.stride != WHOLE,
                    channels_last=not reach.planes,
                    module=module,
                )
            )
            self.nodes.append(node)
        for number, layer in enumerate(self._stages(), 1):
            layer.alias = f"conv{number}"

    def resolve(self, address: str) -> Layer:
        for match in (
            lambda layer: layer.alias == address != "",
            lambda layer: layer.address == address,
            lambda layer: layer.address.startswith(address + "."),
        ):
            found = [layer for layer in self.layers if match(layer)]
            if found:
                return found[-1]
        known = dict.fromkeys(name for layer in self.layers for name in (layer.alias, layer.address) if name)
        near = nearest(address, list(known))
        raise UsageError(f"--layer {address}: no layer of {self.model.name}{near}; `mlcli layers` lists them")

    def hidden(self) -> Layer:
        layer_of = dict(zip(self.nodes, self.layers, strict=True))
        for node, layer in reversed(layer_of.items()):
            if any(isinstance(step, (nn.Linear, nn.Conv2d)) for _, step in _steps(layer.module)):
                before = node.all_input_nodes[0]
                while before in layer_of and (
                    isinstance(layer_of[before].module, nn.Dropout) or layer_of[before].kind == "dropout"
                ):
                    before = before.all_input_nodes[0]
                if before in layer_of:
                    return layer_of[before]
        raise UsageError(f"{self.model.name}: has no hidden layer before its last linear one; name one with --layer")

    def _reach(self, node: fx.Node, module: nn.Module | None, crop: int) -> _Reach | None:
        """What the values of a node see (Araujo et al. 2019); None where they do not depend on the picture."""
        value = self.values[node]
        if node.op == "placeholder":
            return _Reach(1, 1, 1)
        inputs = [source for source in node.all_input_nodes if source in self.reaches]
        if not inputs or value is None:
            return None
        before = [self.reaches[source] for source in inputs]
        # A sum or concatenation sees what any of its terms sees. One that has no place (the weights of a
        # squeeze-and-excitation, which scale whole maps) leaves the stride of the others.
        reach = _Reach(
            max(b.height for b in before),
            max(b.width for b in before),
            min(b.stride for b in before),
            all(b.planes for b in before),
        )
        steps = _steps(module)
        if any(isinstance(step, nn.Conv2d) for _, step in steps) and reach.stride == WHOLE:
            return _Reach(WHOLE, WHOLE, crop / value.shape[-1])  # maps again, after windows or tokens
        if all(isinstance(step, SLIDING + PLACEWISE) for _, step in steps) and steps:
            for _, step in steps:
                if isinstance(step, SLIDING):
                    reach = _slide(reach, step.kernel_size, step.stride, getattr(step, "dilation", 1))
            return reach
        name = _operation(node)
        if name in ("max_pool2d", "avg_pool2d", "boolean_dispatch"):
            kernel = node.kwargs.get("kernel_size", node.args[1] if len(node.args) > 1 else 1)
            stride = node.kwargs.get("stride", node.args[2] if len(node.args) > 2 else None)
            return _slide(reach, kernel, stride or kernel, node.kwargs.get("dilation", 1))
        everything = ALL._replace(planes=reach.planes)
        if "attention" in name:
            return everything
        sources = [self.values[source] for source in inputs]
        maps = [source for source in sources if source.ndim == 4]
        if reach.planes and value.shape in [source.permute(0, 2, 3, 1).shape for source in maps]:
            return reach._replace(planes=value.shape in [source.shape for source in maps])
        if not reach.planes and value.shape in [source.permute(0, 3, 1, 2).shape for source in maps]:
            return reach._replace(planes=True)
        # What keeps height and width works on each place alone; all else may look anywhere.
        if _sides(value, reach.planes) not in [_sides(source, reach.planes) for source in sources]:
            return everything
        # A block of torchvision's that scales its maps by their means
        pooled = module is not None and any(isinstance(m, nn.AdaptiveAvgPool2d) for m in module.children())
        return reach._replace(height=WHOLE, width=WHOLE) if pooled else reach

    def _stages(self) -> list[Layer]:
        """The last layer of each convolutional stage.

        A network may name the blocks that are its stages, in `stages`. Else a stage is the convolutions at one
        stride; a network of at most five (AlexNet) has one for each. It ends with the last layer before the map is
        reduced again through which all must pass: the last ReLU of VGG's blocks, the sum that ends a ResNet's layer,
        and never a branch beside a shortcut. Heads that are convolutions themselves (SqueezeNet) do not count.
        """
        if stages := getattr(self.model.network, "stages", None):
            return [self.resolve(stage) for stage in stages]
        maps = [i for i, layer in enumerate(self.layers) if layer.is_map and not layer.address.startswith("classifier")]
        convolutions = [i for i in maps if any(isinstance(m, nn.Conv2d) for _, m in _steps(self.layers[i].module))]
        each, passages = len(convolutions) <= 5, self._passages()
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

    def _passages(self) -> set[int]:
        """The layers (by index) that nothing goes past: all that is computed before them reaches the end by them."""
        order = {node: place for place, node in enumerate(self.reaches)}
        found, open_until = set(), -1
        layer_of = {node: i for i, node in enumerate(self.nodes)}
        for node, place in order.items():
            if open_until <= place and node in layer_of:
                found.add(layer_of[node])
            open_until = max([open_until, *(order[user] for user in node.users if user in order)])
        return found


def _slide(reach: _Reach, kernel, step, dilation) -> _Reach:
    """A window moved over a map: r += (k - 1) d j; j *= s."""
    (kh, kw), (sh, sw), (dh, dw) = (v if isinstance(v, tuple) else (v, v) for v in (kernel, step, dilation))
    height = reach.height + (kh - 1) * dh * reach.stride
    width = reach.width + (kw - 1) * dw * reach.stride
    return _Reach(height, width, reach.stride * max(sh, sw))


def _steps(module: nn.Module | None, name: str = "") -> list[tuple[str, nn.Module]]:
    """(name inside, module) of what a node runs one after the other: torchvision's blocks of convolution, norm and
    activation are one node."""
    if not isinstance(module, nn.Sequential):
        return [] if module is None else [(name, module)]
    return [s for key, m in module.named_children() for s in _steps(m, f"{name}.{key}" if name else key)]


def _sides(value: Tensor, planes: bool) -> tuple[int, ...] | None:
    """Height and width; None for what has neither."""
    if value.ndim < (3 if planes else 4):
        return None
    return tuple(value.shape[-2:] if planes else value.shape[-3:-1])


def _first_tensor(value) -> Tensor | None:
    """The value of a node, or the first of several (the parts of a `chunk` are alike); None for numbers and shapes."""
    if isinstance(value, (tuple, list)):
        return next(filter(lambda part: part is not None, map(_first_tensor, value)), None)
    return value if isinstance(value, Tensor) else None


def _operation(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))

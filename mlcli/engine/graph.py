"""The graph of a network: its nodes as layers, their shapes, what they see of the picture, and the stages they make."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from mlcli.engine.models import Model, nearest
from mlcli.errors import UsageError
from mlcli.networks.norms import InstanceNorm2d
from mlcli.networks.translated import Translated

SLIDING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
# LayerNorm as torchvision has it: over the channels
PLACEWISE = (nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU, nn.Dropout, nn.Linear)
WHOLE = math.inf  # the receptive field of what sees the whole picture


class Reach(NamedTuple):
    """Of the input, what the units of a map see, in pixels.

    height, width: of one unit's receptive field. top, left: where that of unit (0, 0) begins, negative in the padding.
    stride: to the next unit's. planes: whether height and width are the last two dimensions (else the last is the
    channels).
    """

    height: float
    width: float
    top: float
    left: float
    stride: float
    planes: bool = True


@dataclass
class Layer:
    """One node of the graph, at the model's input size.

    shape: without the batch; (C, H, W) where `is_map`. channels_last: the channels are the last dimension, and whatever
    is between them and the batch are places.
    """

    address: str
    kind: str
    shape: tuple[int, ...]
    reach: Reach
    parameters: int
    is_map: bool
    alias: str = ""
    channels_last: bool = False
    module: nn.Module | None = field(default=None, repr=False)

    @property
    def receptive_field(self) -> float:
        """Its larger side in input pixels; `WHOLE` where a unit sees everything."""
        return max(self.reach.height, self.reach.width)

    @property
    def stride(self) -> float:
        """In input pixels; `WHOLE` where a unit sees everything."""
        return self.reach.stride

    @property
    def units(self) -> int:
        """Its units, the channels of a map or the entries of a vector; 0 where its values are neither (tokens)."""
        vector = len(self.shape) > 0 and math.prod(self.shape) == self.shape[0]
        return self.shape[0] if self.is_map or vector else 0

    def box(self, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the pixels that the unit at this place sees of a picture (height, width)."""
        reach = self.reach
        if WHOLE in reach:
            return 0, 0, width, height
        top, left = round(reach.top + row * reach.stride), round(reach.left + column * reach.stride)
        bottom, right = top + round(reach.height), left + round(reach.width)
        return max(0, left), max(0, top), min(width, right), min(height, bottom)


ALL = Reach(WHOLE, WHOLE, 0, 0, WHOLE)


class Graph:
    """The nodes of a model's graph as layers. No value is computed: tensors on the meta device have shapes alone."""

    def __init__(self, model: Model):
        from torchvision.models.feature_extraction import get_graph_node_names

        self.model = model
        network = model.network
        _, names = get_graph_node_names(network, _tracing(), suppress_diff_warning=True)
        extractor = pruned(network, names)
        crop, channels = model.preprocessing.crop, model.preprocessing.channels
        weights = {name: tensor.to("meta") for name, tensor in (*network.named_parameters(), *network.named_buffers())}
        picture = torch.empty(1, channels, crop, crop, device="meta", dtype=next(network.parameters()).dtype)
        with torch.inference_mode():
            values = functional_call(extractor, weights, picture)
        nodes: dict[str, fx.Node] = extractor.graph.output_node().args[0]
        self.values = {node: _first_tensor(values[name]) for name, node in nodes.items()}
        self.reaches: dict[fx.Node, Reach] = {}
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
                    type(module).__name__ if module is not None else operation(node),
                    tuple(values[name].shape[1:]),
                    reach,
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
        """The layer of an address or alias; a block is its last node. Raises UsageError with the nearest names."""
        if ":" in address:
            raise UsageError(f"{address}: names a unit, where a whole layer is wanted; leave out all from the colon on")
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
        raise UsageError(f"{address}: no layer of {self.model.name}{near}; `mlcli layers` lists them")

    def ends(self) -> tuple[Layer, Layer]:
        """(the last hidden layer, the last layer)."""
        layer_of = dict(zip(self.nodes, self.layers, strict=True))
        for node, layer in reversed(layer_of.items()):
            if any(isinstance(step, (nn.Linear, nn.Conv2d)) for _, step in steps(layer.module)):
                before = node.all_input_nodes[0]
                while before in layer_of and (
                    isinstance(layer_of[before].module, nn.Dropout) or layer_of[before].kind == "dropout"
                ):
                    before = before.all_input_nodes[0]
                if before in layer_of:
                    return layer_of[before], layer
        raise UsageError(f"{self.model.name}: has no hidden layer before its last linear one; name one with --layer")

    def _reach(self, node: fx.Node, module: nn.Module | None, crop: int) -> Reach | None:
        """What the values of a node see (Araujo et al. 2019); None where they do not depend on the picture."""
        value = self.values[node]
        if node.op == "placeholder":
            return Reach(1, 1, 0, 0, 1)
        inputs = [source for source in node.all_input_nodes if source in self.reaches]
        if not inputs or value is None:
            return None
        before = [self.reaches[source] for source in inputs]
        # A sum or concatenation sees what any of its terms sees. One that has no place (the weights of a
        # squeeze-and-excitation, which scale whole maps) leaves the stride of the others.
        top, left = min(b.top for b in before), min(b.left for b in before)
        reach = Reach(
            max(b.top + b.height for b in before) - top,
            max(b.left + b.width for b in before) - left,
            top,
            left,
            min(b.stride for b in before),
            all(b.planes for b in before),
        )
        ran = steps(module)
        if any(isinstance(step, nn.Conv2d) for _, step in ran) and reach.stride == WHOLE:
            return ALL._replace(stride=crop / value.shape[-1])  # maps again, after windows or tokens
        if all(isinstance(step, SLIDING + PLACEWISE) for _, step in ran) and ran:
            for _, step in ran:
                if isinstance(step, SLIDING):
                    reach = _slide(reach, step.kernel_size, step.stride, step.padding, getattr(step, "dilation", 1))
            return reach
        name = operation(node)
        if name in ("max_pool2d", "avg_pool2d", "boolean_dispatch"):
            kernel = node.kwargs.get("kernel_size", node.args[1] if len(node.args) > 1 else 1)
            stride = node.kwargs.get("stride", node.args[2] if len(node.args) > 2 else None)
            padding = node.kwargs.get("padding", node.args[3] if len(node.args) > 3 else 0)
            return _slide(reach, kernel, stride or kernel, padding, node.kwargs.get("dilation", 1))
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
        # A block of torchvision's that scales its maps by their means, or a norm by those of the picture
        pooled = module is not None and any(isinstance(m, nn.AdaptiveAvgPool2d) for m in module.children())
        return reach._replace(height=WHOLE, width=WHOLE) if pooled or isinstance(module, InstanceNorm2d) else reach

    def _stages(self) -> list[Layer]:
        """The last layer of each convolutional stage.

        A network may name the blocks that are its stages, in `stages`. Else a stage is the convolutions at one
        stride; a network of at most five (AlexNet) has one for each. It ends with the last layer before the map is
        reduced again through which all must pass: the last ReLU of VGG's blocks, the sum that ends a ResNet's layer,
        and never a branch beside a shortcut. Heads that are convolutions themselves (SqueezeNet) do not count, nor
        does the generator before a network.
        """
        network, before = self.model.network, ""
        if isinstance(network, Translated):
            network, before = network.network, "network."
        if isinstance(stages := getattr(network, "stages", None), tuple):
            return [self.resolve(before + stage) for stage in stages]
        head = before + "classifier"
        own = [(i, layer.address) for i, layer in enumerate(self.layers) if layer.is_map]
        maps = [i for i, address in own if address.startswith(before) and not address.startswith(head)]
        convolutions = [i for i in maps if any(isinstance(m, nn.Conv2d) for _, m in steps(self.layers[i].module))]
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


def pruned(network: nn.Module, addresses: Sequence[str]) -> fx.GraphModule:
    """The network cut down to what the nodes of these addresses need; address: value."""
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = {address: address for address in addresses}
    return create_feature_extractor(network, nodes, tracer_kwargs=_tracing(), suppress_diff_warning=True).eval()


def _tracing() -> dict:
    """What the tracer is told: a norm that asks how many pictures there are is one node, and not looked into."""
    from timm.models import get_notrace_modules

    return {"leaf_modules": [InstanceNorm2d, *get_notrace_modules()]}  # made anew, since torchvision adds to it


def _slide(reach: Reach, kernel, step, padding, dilation) -> Reach:
    """A window moved over a map: the first begins p j earlier; r += (k - 1) d j; j *= s."""
    pairs = (v if isinstance(v, tuple) else (v, v) for v in (kernel, step, padding, dilation))
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = pairs
    return Reach(
        reach.height + (kh - 1) * dh * reach.stride,
        reach.width + (kw - 1) * dw * reach.stride,
        reach.top - ph * reach.stride if reach.stride != WHOLE else reach.top,
        reach.left - pw * reach.stride if reach.stride != WHOLE else reach.left,
        reach.stride * max(sh, sw),
    )


def steps(module: nn.Module | None, name: str = "") -> list[tuple[str, nn.Module]]:
    """(name inside, module) of what a node runs one after the other: torchvision's blocks of convolution, norm and
    activation are one node."""
    if not isinstance(module, nn.Sequential):
        return [] if module is None else [(name, module)]
    return [s for key, m in module.named_children() for s in steps(m, f"{name}.{key}" if name else key)]


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


def operation(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))

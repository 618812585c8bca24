"""Layers of a network by address, what they look like, and their activations.

An address is a node of the network's graph: a module (`features.10`, `layer1.0.conv2`), a whole block (`layer1`, its
last node) or an operation between modules (`layer1.0.add`). The aliases conv1, conv2, ... stand on every model for
the end of its first to last convolutional stage.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from mlcli.engine.models import Model, nearest
from mlcli.errors import UsageError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
WHOLE = math.inf  # the receptive field of what sees the whole picture


@dataclass
class Layer:
    """One node of the graph, at the model's input size.

    shape: without the batch. receptive_field, stride: in input pixels, `WHOLE` where a unit sees everything.
    """

    address: str
    kind: str
    shape: tuple[int, ...]
    receptive_field: float
    stride: float
    parameters: int
    alias: str = ""
    module: nn.Module | None = field(default=None, repr=False)

    @property
    def is_map(self) -> bool:
        """Whether its activations are maps (C, H, W)."""
        return len(self.shape) == 3


def layers(model: Model) -> list[Layer]:
    """Every layer of the model in the order of computation, with the aliases of the stages."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    network = model.network
    _, names = get_graph_node_names(network, suppress_diff_warning=True)
    graph = create_feature_extractor(network, [names[-1]], suppress_diff_warning=True)
    graph.eval()
    tracker = _Tracker(graph)
    crop, channels = model.preprocessing.crop, model.preprocessing.channels
    weight = next(network.parameters())
    with torch.inference_mode():
        tracker.run(torch.zeros(1, channels, crop, crop, device=weight.device, dtype=weight.dtype))
    found = []
    for name, node in zip(names, graph.graph.nodes, strict=False):
        if node.op == "placeholder" or node not in tracker.shapes:
            continue
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        kind = type(module).__name__ if module is not None else _operation(node)
        size, stride = tracker.fields[node]
        count = sum(p.numel() for p in module.parameters()) if module is not None else 0
        found.append(Layer(name, kind, tracker.shapes[node], size, stride, count, module=module))
    for number, layer in enumerate(_stages(found), 1):
        layer.alias = f"conv{number}"
    return found


def _operation(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _stages(found: Sequence[Layer]) -> list[Layer]:
    """The last layer of each convolutional stage.

    A stage is a run of convolutions at one stride. A network of at most five convolutions (AlexNet) has a stage for
    each. The stage ends before the layer that reduces the map, so after the last ReLU of VGG's blocks, and with the
    whole residual block of a ResNet.
    """
    maps = [layer for layer in found if layer.is_map and layer.stride != WHOLE]
    convolutions = [layer for layer in maps if isinstance(layer.module, CONVOLUTIONS)]
    each = len(convolutions) <= 5
    ends: list[Layer] = []
    stage: object = None
    for layer in maps:
        is_convolution = isinstance(layer.module, CONVOLUTIONS)
        if is_convolution and (each or layer.stride != stage):
            stage = layer.stride
            ends.append(layer)
        elif ends and layer.stride == stage and "pool" not in layer.kind.lower():
            ends[-1] = layer
    return ends


class _Tracker(fx.Interpreter):
    """Runs the graph once and notes each node's shape, receptive field and stride (in input pixels)."""

    def __init__(self, graph: fx.GraphModule):
        super().__init__(graph, garbage_collect_values=True)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.fields: dict[fx.Node, tuple[float, float]] = {}

    def run_node(self, node: fx.Node):
        value = super().run_node(node)
        inputs = [self.fields[n] for n in node.all_input_nodes if n in self.fields]
        if node.op == "placeholder":
            self.fields[node] = (1, 1)
        elif isinstance(value, Tensor) and inputs:
            size, stride = max(i[0] for i in inputs), max(i[1] for i in inputs)
            module = self.module.get_submodule(node.target) if node.op == "call_module" else None
            self.fields[node] = _grow(size, stride, module, node, value)
            self.shapes[node] = tuple(value.shape[1:])
        return value


def _grow(size: float, stride: float, module: nn.Module | None, node: fx.Node, value: Tensor) -> tuple[float, float]:
    """Receptive field and stride after a node (Araujo et al. 2019): r += (k - 1) d j; j *= s."""
    if value.ndim != 4:
        return WHOLE, WHOLE
    if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)) or "adaptive" in _operation(node):
        return WHOLE, WHOLE
    if hasattr(module, "kernel_size") and hasattr(module, "stride"):
        kernel, step = _side(module.kernel_size), _side(module.stride or module.kernel_size)
        return size + (kernel - 1) * _side(getattr(module, "dilation", 1)) * stride, stride * step
    if node.op == "call_function" and "pool" in _operation(node):
        kernel = node.kwargs.get("kernel_size", node.args[1] if len(node.args) > 1 else 1)
        step = node.kwargs.get("stride", node.args[2] if len(node.args) > 2 else kernel) or kernel
        return size + (_side(kernel) - 1) * stride, stride * _side(step)
    return size, stride


def _side(value) -> int:
    return max(value) if isinstance(value, (tuple, list)) else value


def resolve(model: Model, address: str) -> Layer:
    """The layer of an address or alias; UsageError with the nearest names. A block is its last node."""
    known = layers(model)
    for layer in known:
        if address in (layer.address, layer.alias):
            return layer
    inside = [layer for layer in known if layer.address.startswith(address + ".")]
    if inside:
        return inside[-1]
    names = [name for layer in known for name in (layer.address, layer.alias) if name]
    raise UsageError(f"--layer {address}: no layer of {model.name}{nearest(address, names)}; `mlcli layers` lists them")


def convolution(model: Model, address: str) -> Layer:
    """The convolution that an address means: itself, or the first one of the stage or block that it names.

    Raises UsageError where there is none.
    """
    known = layers(model)
    target = resolve(model, address)
    if isinstance(target.module, nn.Conv2d):
        return target
    if target.alias == address:
        ends = [i for i, layer in enumerate(known) if layer.alias]
        last = known.index(target)
        first = max((i + 1 for i in ends if i < last), default=0)
        inside = known[first : last + 1]
    else:
        inside = [layer for layer in known if layer.address.startswith(address + ".")]
    for layer in inside:
        if isinstance(layer.module, nn.Conv2d):
            return layer
    raise UsageError(f"--layer {address}: {target.kind} has no kernels; name a convolution (see `mlcli layers`)")


class Activations:
    """The activations of some layers of a model; nothing past the last of them is computed."""

    def __init__(self, model: Model, addresses: Sequence[str]):
        from torchvision.models.feature_extraction import create_feature_extractor

        self.model = model
        nodes = {address: resolve(model, address).address for address in addresses}
        # Several addresses may mean one node (an alias beside its address); the extractor takes each node once.
        self.nodes = nodes
        self.extractor = create_feature_extractor(
            model.network, {node: node for node in dict.fromkeys(nodes.values())}, suppress_diff_warning=True
        )

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        """(N, C, H, W), uint8 or float in [0, 1] -> address: activations (N, ...)."""
        values = self.extractor(self.model.normalised(images))
        return {address: values[node] for address, node in self.nodes.items()}

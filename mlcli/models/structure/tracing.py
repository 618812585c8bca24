"""From a network to the graph of its operations, by torch.fx.

A module that cannot be traced, since its code needs values, is one node. Nothing of torchvision or timm is
imported for a network that is not theirs.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from mlcli.errors import UsageError, reason
from mlcli.networks.norms import InstanceNorm2d

# Traced as one node, since other commands need them: kernels, and the last layer
KERNELS = (nn.Conv2d, nn.Linear)
# Those of timm's modules that are one layer and need not be traced; the others are blocks
SINGLE = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.AvgPool2d, nn.MaxPool2d)


class Trace:
    """The graph of network(images), and what its nodes need of the network.

    addresses: of its nodes, in the order of computation: the module that a node is, or the module that runs it and the
    operation. They are those of torchvision.models.feature_extraction; what is repeated gets _1, _2, ...
    Raises UsageError with the reason where nothing can be followed.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        tracer = _Tracer(network)
        # Behind a module of our own its arguments besides the images are what they are by default, no unknowns
        root = _OfImages(network)
        training = [module for module in network.modules() if module.training]
        network.eval()
        try:
            self.graph = tracer.trace(root)
        finally:
            for module in training:
                module.training = True
        self.addresses = tracer.addresses
        if _OfImages.INSIDE in tracer.opaque:
            raise UsageError(
                f"--model {name}: its layers cannot be identified, since its code needs values of the image "
                f"({tracer.opaque[_OfImages.INSIDE]}); take another model"
            )
        prefix = _OfImages.INSIDE + "."
        self.parts: dict[str, nn.Module | Tensor] = {}
        for node in self.graph.nodes:
            if node.op in ("call_module", "get_attr"):
                address = target_name(node)
                part = root.get_submodule(address) if node.op == "call_module" else _attribute(root, address)
                node.target = address.removeprefix(prefix)
                self.parts[node.target] = part
            elif node.target is torch._assert:  # what it says of sizes, without the names of nodes
                node.args = (node.args[0], re.sub(r" ?\(?Proxy\(\w+\)\)?", "", str(node.args[1])))
        self._follow_overwritten()

    def _follow_overwritten(self) -> None:
        """What is overwritten is used as it is afterwards, whether or not the code uses the result of doing so."""
        order = {node: number for number, node in enumerate(self.graph.nodes)}
        for node, number in order.items():
            if self._overwrites(node):
                for user in [user for user in node.args[0].users if order[user] > number]:
                    user.replace_input_with(node.args[0], node)

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that a node is; None for an operation, a tensor or the images."""
        if node.op != "call_module":
            return None
        module = self.parts[target_name(node)]
        assert isinstance(module, nn.Module)
        return module

    def _overwrites(self, node: fx.Node) -> bool:
        if not node.args or not isinstance(node.args[0], fx.Node):
            return False
        if node.op == "call_module":
            return bool(getattr(self.module_of(node), "inplace", False))
        in_place = node.op == "call_function" and node.target in IN_PLACE or bool(node.kwargs.get("inplace", False))
        return in_place or node.op == "call_method" and _plain(target_name(node)) is not None

    def module(self, values: Mapping[str, fx.Node]) -> fx.GraphModule:
        """A module that computes the values of these nodes and nothing else; images -> name: value.

        It shares its parameters with the network. Call its `forward`: as a module it prints errors.
        """
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        graph.graph_copy(self.graph, copies)
        graph.output({name: copies[node] for name, node in values.items()})
        whole = fx.GraphModule(self.parts, graph)
        whole.graph.eliminate_dead_code()
        needed = {node.target for node in whole.graph.nodes if node.op in ("call_module", "get_attr")}
        return fx.GraphModule({name: self.parts[name] for name in needed}, whole.graph).eval()


class _OfImages(nn.Module):
    INSIDE = "network"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return self.network(x)


def target_name(node: fx.Node) -> str:
    """The name of what a node calls or gets: a module, an attribute or a method, not a function."""
    assert isinstance(node.target, str)
    return node.target


def _attribute(root: nn.Module, path: str) -> Any:
    outer, _, name = path.rpartition(".")
    return getattr(root.get_submodule(outer), name)


class _Tracer(fx.Tracer):
    """opaque: address (with the prefix of `_OfImages`) of a module that could not be traced: the reason."""

    def __init__(self, network: nn.Module) -> None:
        origins = {type(module).__module__.partition(".")[0] for module in network.modules()}
        leaves: list[type[nn.Module]] = [*KERNELS, InstanceNorm2d]  # the norm asks how many images there are
        modules, functions = [math], []
        if "torchvision" in origins:
            from torchvision import ops

            modules.append(ops)
            leaves += [c for c in vars(ops).values() if isinstance(c, type) and issubclass(c, nn.Module)]
        if "timm" in origins:
            from timm.layers import SpaceToDepth
            from timm.models import get_notrace_functions, get_notrace_modules

            leaves += [SpaceToDepth, *(c for c in get_notrace_modules() if issubclass(c, SINGLE))]
            functions = get_notrace_functions()
        super().__init__(
            autowrap_modules=tuple(modules),  # type: ignore[arg-type]  # torch's annotation admits one module alone
            autowrap_functions=tuple(functions),
        )
        self.leaves = tuple(leaves)
        self.addresses: dict[fx.Node, str] = {}
        self.opaque: dict[str, str] = {}
        self._inside = ""
        self._uses: dict[str, int] = {}
        self._taken: set[str] = set()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        outer, self._inside = self._inside, self.path_of_module(m)
        try:
            if not self.is_leaf_module(m, self._inside):
                before = len(self.addresses)
                try:
                    return forward(*args, **kwargs)
                except Exception as error:  # whatever its code does with what is no tensor
                    self._forget(before)
                    self.opaque[self._inside] = reason(error)
            elif type(m) is nn.Identity:
                return args[0]
            return self.create_proxy("call_module", self._inside, args, kwargs)
        finally:
            self._inside = outer

    def create_proxy(
        self,
        kind: str,
        target: Callable[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *others: Any,
        **more: Any,
    ) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *others, **more)
        self.addresses[proxy.node] = self._address(proxy.node)
        return proxy

    def _address(self, node: fx.Node) -> str:
        base = self._inside.removeprefix(_OfImages.INSIDE).removeprefix(".")
        if node.op != "call_module":
            base = ".".join(filter(None, (base, re.sub(r"_[0-9]+$", "", node.name))))
        while True:
            used = self._uses[base] = self._uses.get(base, -1) + 1
            address = f"{base}_{used}" if used else base
            if address not in self._taken:
                self._taken.add(address)
                return address

    def _forget(self, count: int) -> None:
        """Take back all nodes but the first `count`."""
        for node in reversed(list(self.addresses)[count:]):
            self.graph.erase_node(node)
            self._taken.remove(self.addresses.pop(node))


def keep_values(extractor: fx.GraphModule) -> None:
    """Let no operation overwrite its input, which may be read as well."""
    for module in extractor.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # torch's stubs expect modules and tensors alone
    for node in extractor.graph.nodes:
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
        elif node.op == "call_function" and node.target in IN_PLACE:
            node.target = IN_PLACE[node.target]
        elif node.op == "call_method":
            node.target = _plain(target_name(node)) or node.target
    extractor.recompile()


def _plain(method: str) -> str | None:
    """The method that gives what this one overwrites its tensor with; None for one that overwrites nothing."""
    overwrites = method.endswith("_") and not method.endswith("__") and hasattr(torch.Tensor, method[:-1])
    return method[:-1] if overwrites else None


IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}

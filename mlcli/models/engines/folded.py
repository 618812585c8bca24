"""The engine of torch itself: batch norms folded into convolutions, weights in the precision that they are used in."""

import copy

import torch
from torch import Tensor, fx, nn

from mlcli.errors import UsageError
from mlcli.models.structure.folding import fold_norms, let_activations_overwrite
from mlcli.models.structure.tracing import Trace
from mlcli.runtime.device import DTYPES, Runtime

VALUES = "values"


class Folded(nn.Module):
    """The traced network with its batch norms folded; the network itself stays as it is."""

    def __init__(self, traced: fx.GraphModule):
        super().__init__()
        self.traced = traced

    def forward(self, images: Tensor) -> Tensor:
        return self.traced.forward(images)[VALUES]


def folded(network: nn.Module, runtime: Runtime) -> nn.Module:
    """The same values, up to rounding, in less time; the network itself where it cannot be traced.

    In bf16 and fp16 the weights of convolutions and linear layers are kept in that precision, so that autocast does not
    convert them for every batch; the bits of the results are those of autocast.
    """
    try:
        trace = Trace(network, "")
    except UsageError:  # its code needs values
        return network
    end = trace.graph.output_node().args[0]
    if not isinstance(end, fx.Node):  # auxiliary logits beside the logits
        return network
    traced = trace.module({VALUES: end})
    fold_norms(traced)
    let_activations_overwrite(traced)
    if runtime.precision != "fp32":
        _convert_weights(traced, DTYPES[runtime.precision])
    return Folded(traced).eval().to(memory_format=runtime.memory_format)


def _convert_weights(traced: fx.GraphModule, dtype: torch.dtype) -> None:
    """Give each convolution and linear layer a copy of itself with weights of this type."""
    for node in traced.graph.nodes:
        module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            traced.add_submodule(str(node.target), copy.deepcopy(module).to(dtype))

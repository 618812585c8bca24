"""Batch norms folded into the convolutions before them: the same values by fewer operations.

In evaluation a batch norm scales and shifts each channel by constants, and so does a convolution whose weights and
bias are scaled and shifted by the same constants. What is left of a norm is its activation, where it has one (timm's
fused norms).
"""

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(extractor: fx.GraphModule) -> None:
    """Fold what can be folded, in place; the modules of the network that it was made of stay as they are.

    A convolution whose own values are asked for, or go elsewhere too, keeps its norm.
    """
    modules = dict(extractor.named_modules())
    uses = [node.target for node in extractor.graph.nodes if node.op == "call_module"]
    for node in extractor.graph.nodes:
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d) or norm.training or norm.running_mean is None:
            continue
        source = node.args[0]
        convolution = modules.get(source.target) if source.op == "call_module" else None
        if (
            isinstance(convolution, nn.Conv2d)
            and len(source.users) == 1
            and uses.count(source.target) == uses.count(node.target) == 1
        ):
            folded, rest = f"{source.name}_folded", f"{node.name}_rest"
            extractor.add_submodule(folded, fuse_conv_bn_eval(convolution.eval(), norm))
            extractor.add_submodule(rest, getattr(norm, "act", nn.Identity()))
            source.target, node.target = folded, rest
    extractor.recompile()


def let_activations_overwrite(extractor: fx.GraphModule) -> None:
    """Let activations overwrite the output of the convolution before them, where nothing else takes it.

    It saves memory and time, and is for inference alone: gradients may need what is overwritten.
    """
    modules = dict(extractor.named_modules())

    def module_of(node: fx.Node) -> nn.Module | None:
        return modules.get(str(node.target)) if node.op == "call_module" else None

    for node in extractor.graph.nodes:
        module = module_of(node)
        if module is None or getattr(module, "inplace", None) is not False or len(node.all_input_nodes) != 1:
            continue
        source = node.all_input_nodes[0]
        while isinstance(module_of(source), nn.Identity) and len(source.users) == 1:  # what is left of a norm
            source = source.all_input_nodes[0]
        if isinstance(module_of(source), nn.Conv2d) and len(source.users) == 1:
            overwriting, name = copy.copy(module), f"{node.name}_in_place"
            overwriting.inplace = True  # type: ignore[assignment]  # torch's stubs expect modules and tensors alone
            extractor.add_submodule(name, overwriting)
            node.target = name
    extractor.recompile()

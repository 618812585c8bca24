"""A classifier as an encoder and what classifies its features, f_2(f_1(x)), whatever its architecture."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mlcli.errors import UsageError


def last_linear(network: nn.Module) -> nn.Linear:
    """f_2: the last linear layer. Raises UsageError where there is none."""
    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise UsageError(f"--model: {type(network).__name__} has no linear layer, whose inputs are the features")
    return found[-1]


@contextmanager
def penultimate(network: nn.Module) -> Iterator[list[Tensor]]:
    """A list that holds, after a pass through the network, what came into its last linear layer: (N, F)."""
    caught: list[Tensor] = []
    handle = last_linear(network).register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        yield caught
    finally:
        handle.remove()

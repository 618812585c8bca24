"""A classifier as an encoder f_1 and a classifier f_2 of its features, f_2(f_1(x)), for any architecture."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mlcli.errors import UsageError
from mlcli.models.last_layer import last_layer


def last_linear(network: nn.Module) -> nn.Linear:
    """f_2: the last linear layer. Raises UsageError where there is none."""
    layer = last_layer(network, nn.Linear)
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"--model: {type(network).__name__} has no linear layer, whose inputs are the features")
    return layer


def head_and_body(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(weights of the last linear layer, all others); without such a layer the first list is empty."""
    last = last_layer(network, nn.Linear)
    head = [] if last is None else list(last.parameters())
    return head, [p for p in network.parameters() if not any(p is other for other in head)]


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch norms of a network, in their order: of maps, of vectors, and of several processes."""
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def keep_statistics(network: nn.Module) -> None:
    """Make batch norms use their running statistics, which come from more images than a batch holds."""
    for norm in batch_norms(network):
        norm.eval()


def still_dropout(network: nn.Module) -> None:
    """Make dropout do nothing in a network that is trained."""
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()


@contextmanager
def penultimate(network: nn.Module) -> Iterator[list[Tensor]]:
    """A list that holds, after a pass through the network, the input of its last linear layer: (N, F).

    Of a segmenter, which has no linear layer, it is the input of the last convolution: (N, F, H, W).
    """
    caught: list[Tensor] = []
    last = last_layer(network, nn.Linear) or last_layer(network, nn.Conv2d, nn.ConvTranspose2d)
    if last is None:
        raise UsageError(f"--model: {type(network).__name__} has neither a linear nor a convolutional layer")
    handle = last.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        handle.remove()

"""The shapes of what a network gives for an image."""

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

LIGHT = 2e11  # parameters x pixels; such networks take 2 to 30 ms of a core, the heaviest of ours 0.4 s


def by_values(network: nn.Module, image: Tensor) -> bool:
    """Whether the shapes are found by computing values: for a light network on a CPU.

    torch's rules for shapes alone would import its compiler, which takes 1 to 3 seconds.
    """
    light = sum(parameter.numel() for parameter in network.parameters()) * image[0, 0].numel() <= LIGHT
    return light and all(part.device.type == "cpu" for part in (image, *network.parameters(), *network.buffers()))


def on_shapes(module: nn.Module, image: Tensor) -> Any:
    """The result of a module for an image (1, C, H, W); if not `by_values`, on the meta device, without values.

    Raises what the module raises.
    """
    if by_values(module, image):
        return module(image)
    weights = {name: tensor.to("meta") for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    return functional_call(module, weights, image.to("meta"))

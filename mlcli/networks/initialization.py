"""How the weights of generators and discriminators begin."""

from collections.abc import Callable

from torch import nn

INITIALIZATIONS: dict[str, Callable] = {
    "normal": lambda weight, gain: nn.init.normal_(weight, 0.0, gain),
    "xavier": lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain),
    "kaiming": lambda weight, gain: nn.init.kaiming_normal_(weight, a=0, mode="fan_in"),
    "orthogonal": lambda weight, gain: nn.init.orthogonal_(weight, gain=gain),
}


def initialize(network: nn.Module, kind: str = "normal", gain: float = 0.02) -> nn.Module:
    """Draw all weights anew; returns the network.

    Kernels and matrices by `kind` (normal: N(0, gain^2), of DCGAN, Radford et al. 2016), their biases 0; scales of
    batch norms and affine instance norms N(1, gain^2), shifts 0.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            INITIALIZATIONS[kind](module.weight, gain)
        elif isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d)) and module.weight is not None:
            nn.init.normal_(module.weight, 1.0, gain)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network

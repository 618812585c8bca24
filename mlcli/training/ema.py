"""The exponential moving average (EMA) of a network's weights, which is the result of adversarial training.

The weights of the two networks circle around the solution of their game; their average lies nearer to it (Yazici et al.
2019, "The unusual effectiveness of averaging in GAN training").
"""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class EMA(Generic[Network]):
    """A copy of a network whose weights are the moving average of the network's weights during training.

    network: the copy, in evaluation mode and without gradients; a method puts it into its `state`, so that it is saved
    and resumed. The running statistics of batch norms are averaged like weights; integer buffers are copied.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after a step: average = d average + (1 - d) weights, d at most (1 + step) / (10 + step).

        The bound on d, which depends on the step alone, lets the average forget the first, random weights soon.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        now = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(now[name], 1 - decay)
            else:
                average.copy_(now[name])

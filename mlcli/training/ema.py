"""The exponential moving average of a network's weights, which the results of adversarial training are taken from.

The two players of a game circle around its solution; the average of their path lies nearer to it (Yazici et al. 2019).
"""

import copy

import torch
from torch import nn


class Average:
    """A second network whose weights are the average of those that the first one has had.

    network: in evaluation mode, without gradients; put it into a method's `state`, which saves and resumes it.
    The running statistics of batch norms are averaged like weights; what is not of floating point is copied.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after step `step`: w' = d w' + (1 - d) w, d at most (1 + step) / (10 + step).

        The bound lets the average forget the first, random weights soon. It depends on the step alone.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        now = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(now[name], 1 - decay)
            else:
                average.copy_(now[name])

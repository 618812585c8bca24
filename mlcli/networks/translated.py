"""A network behind a generator that brings images to what the network knows."""

import torch
from torch import Tensor, nn


class Translated(nn.Module):
    """network(normalized(generator(x))), the network itself unchanged.

    forward: (N, C, H, W) in [-1, 1] -> what the network gives. mean, std: its normalization of values in [0, 1].
    """

    def __init__(self, generator: nn.Module, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.generator, self.network = generator, network
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "Translated":
        """The generator alone learns; batch norms of the network keep their statistics."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.network((self.generator(x) * 0.5 + 0.5 - self.mean) / self.std)

"""A network applied to the output of a generator that translates images to the domain of the network."""

import torch
from torch import Tensor, nn


class Translated(nn.Module):
    """network(normalize(generator(x))), where the network is fixed.

    forward: (N, C, H, W) in [-1, 1] -> the network's output. mean, std: its normalization of values in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, generator: nn.Module, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.generator, self.network = generator, network
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "Translated":
        """Only the generator changes its mode; batch norms of the network keep their statistics."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.network((self.generator(x) * 0.5 + 0.5 - self.mean) / self.std)

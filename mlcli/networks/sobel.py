"""Sobel: the classical edge detector as a network with a known output, without training."""

import torch
from torch import Tensor, nn


class Sobel(nn.Module):
    """The gradient of an image's luma, by Sobel's two fixed kernels, and its magnitude.

    forward: (N, 3, H, W) in [0, 1] -> (N, 1, H, W), the magnitude, in change of luma per pixel.
    Stages: gradient (2, H, W), to the right and downwards; magnitude (1, H, W).
    """

    stages = ("gradient", "magnitude")

    def __init__(self) -> None:
        super().__init__()
        self.gradient = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.magnitude = Magnitude()
        right = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # ITU-R 601
        with torch.no_grad():
            self.gradient.weight.copy_(torch.stack([right * luma, right.T * luma]))

    def forward(self, x: Tensor) -> Tensor:
        return self.magnitude(self.gradient(x))


class Magnitude(nn.Module):
    """(N, C, H, W) -> (N, 1, H, W), the Euclidean norm of the vector at each position."""

    def forward(self, x: Tensor) -> Tensor:
        return x.norm(dim=1, keepdim=True)

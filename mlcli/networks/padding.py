"""Reflection padding whose gradient is the same in every run, on a GPU too."""

import torch
from torch import Tensor, nn


class ReflectionPad2d(nn.ReflectionPad2d):
    """Reflection padding by flipping and concatenating, since torch's own sums gradients on a GPU in no fixed order."""

    def forward(self, x: Tensor) -> Tensor:
        return reflection_padded(x, *self.padding) if x.is_cuda else super().forward(x)


def reflection_padded(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """(..., H, W) -> (..., top + H + bottom, left + W + right), reflected at the border without repeating the edge."""
    width = x.shape[-1]
    x = torch.cat([x[..., 1 : left + 1].flip(-1), x, x[..., width - right - 1 : width - 1].flip(-1)], -1)
    height = x.shape[-2]
    return torch.cat([x[..., 1 : top + 1, :].flip(-2), x, x[..., height - bottom - 1 : height - 1, :].flip(-2)], -2)

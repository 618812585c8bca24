"""Convolution kernels as image tiles (Krizhevsky et al. 2012, figure 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kernels:
    """Kernels to draw: tiles (N, 3, k, k) in [0, 1], and the number of the unit or input channel of each.

    scales: the weight that 1 stands for in each tile; 0.5 stands for 0, and 0 for minus this weight.
    """

    tiles: Tensor
    numbers: list[int]
    scales: list[float]


def first_layer(weight: Tensor) -> Kernels:
    """One tile for each kernel of a first layer (N, 3 or 1, k, k), in the order of `arrange`.

    Each kernel has its own scale: zero is mid-gray and the largest absolute weight fills the range, so the structure of
    weak kernels is visible too.
    """
    largest = weight.abs().amax((1, 2, 3))
    scaled = weight / largest.clamp_min(1e-12)[:, None, None, None]
    order = arrange(weight)
    return Kernels((0.5 + 0.5 * scaled[order]).expand(-1, 3, -1, -1), order.tolist(), largest[order].tolist())


def one_unit(weight: Tensor, unit: int, groups: int = 1) -> Kernels:
    """The kernel of one unit of a deeper layer (N, C, k, k): a gray tile for each input channel, the strongest first.

    All tiles share one scale, so the strengths of the channels can be compared. groups: number of groups of the
    convolution; a unit has the C input channels of its group.
    """
    kernel = weight[unit]  # (C, k, k)
    order = kernel.square().sum((1, 2)).argsort(descending=True, stable=True)
    largest = kernel.abs().max()
    scaled = kernel[order] / largest.clamp_min(1e-12)
    first = unit * groups // len(weight) * len(kernel)
    tiles = (0.5 + 0.5 * scaled)[:, None].expand(-1, 3, -1, -1)
    return Kernels(tiles, (first + order).tolist(), [largest.item()] * len(order))


def arrange(weight: Tensor) -> Tensor:
    """Indices that sort first-layer kernels (N, C, k, k): gray ones by orientation, then colored ones by hue."""
    gray = orientation(weight.mean(1))  # [0, pi)
    return torch.where(colorfulness(weight) < 0.5, gray, torch.pi + hue(weight)).argsort(stable=True)


def hue(weight: Tensor) -> Tensor:
    """Angle on the color circle of the most colorful weight of each kernel, (N,) in [0, 2 pi); 0 for gray input.

    One weight decides, and not the sum of all, in which the two sides of a color edge would cancel.
    """
    if weight.shape[1] != 3:
        return torch.zeros(len(weight))
    red, green, blue = weight.flatten(2).unbind(1)  # (N, k k) each
    x, y = 2 * red - green - blue, 3**0.5 * (green - blue)
    strongest = (x.square() + y.square()).argmax(1, keepdim=True)
    return torch.atan2(y.gather(1, strongest), x.gather(1, strongest))[:, 0] % (2 * torch.pi)


def colorfulness(weight: Tensor) -> Tensor:
    """Fraction of the energy of each kernel that lies off the gray axis, (N,) in [0, 1]."""
    off = (weight - weight.mean(1, keepdim=True)).square().sum((1, 2, 3))
    return off / weight.square().sum((1, 2, 3)).clamp_min(1e-12)


def orientation(gray: Tensor) -> Tensor:
    """Direction in which each gray kernel (N, h, w) varies most, (N,) in [0, pi); 0 for a vertical edge."""
    size = 4 * max(gray.shape[1:])  # zero padding, for a finer grid of frequencies
    spectrum = torch.fft.fft2(gray - gray.mean((1, 2), keepdim=True), s=(size, size)).abs().square()
    fy, fx = torch.meshgrid(torch.fft.fftfreq(size), torch.fft.fftfreq(size), indexing="ij")
    # With the angle doubled, f and -f are the same direction
    radius = (fx.square() + fy.square()).clamp_min(1e-12)
    cos2 = (spectrum * (fx.square() - fy.square()) / radius).sum((1, 2))
    sin2 = (spectrum * 2 * fx * fy / radius).sum((1, 2))
    return (torch.atan2(sin2, cos2) / 2) % torch.pi


def structure(weight: Tensor) -> Tensor:
    """Autocorrelation of each kernel (N, C, h, w) at a shift of one pixel, (N,) in [-1, 1]; about 0 for noise.

    The highest of four directions counts: an edge or a line is similar along itself, a color blob in every direction.
    Of white noise of 3 x 7 x 7, 99 in 100 kernels score less than 0.3.
    """
    height, width = weight.shape[-2:]
    centered = weight - weight.mean((1, 2, 3), keepdim=True)
    scores = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        if height > dy and width > abs(dx):
            kernel = centered[..., : height - dy, max(0, -dx) : width - max(0, dx)].flatten(1)
            shifted = centered[..., dy:, max(0, dx) : width + min(0, dx)].flatten(1)
            scores.append(torch.nn.functional.cosine_similarity(kernel, shifted, dim=1))
    return torch.stack(scores).amax(0) if scores else torch.zeros(len(weight))

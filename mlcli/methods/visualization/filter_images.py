"""The kernels of a convolution as one image (Krizhevsky et al. 2012, figure 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kernels:
    """What to draw: tiles (N, 3, k, k) in [0, 1], and the unit or channel number of each."""

    tiles: Tensor
    numbers: list[int]


def first_layer(weight: Tensor) -> Kernels:
    """Kernels that see color or gray (N, 3 or 1, k, k): one tile each, in the order of `arrange`.

    Each is scaled on its own, its zero at mid-gray and its largest weight at full range, so that structure shows in
    weak kernels too.
    """
    scaled = weight / weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    order = arrange(weight)
    return Kernels((0.5 + 0.5 * scaled[order]).expand(-1, 3, -1, -1), order.tolist())


def one_unit(weight: Tensor, unit: int, groups: int = 1) -> Kernels:
    """The kernel of one unit of a deeper layer (N, C, k, k): a gray tile for each input channel, the strongest first.

    All share one scale, so that the strength of the channels can be compared. groups: of the convolution; a unit sees
    the C channels of its own.
    """
    kernel = weight[unit]  # (C, k, k)
    order = kernel.square().sum((1, 2)).argsort(descending=True, stable=True)
    scaled = kernel[order] / kernel.abs().max().clamp_min(1e-12)
    first = unit * groups // len(weight) * len(kernel)
    return Kernels((0.5 + 0.5 * scaled)[:, None].expand(-1, 3, -1, -1), (first + order).tolist())


def arrange(weight: Tensor) -> Tensor:
    """An order of first-layer kernels (N, C, k, k): gray ones by the orientation of their edge, then colors by hue."""
    gray = orientation(weight.mean(1))  # [0, pi)
    return torch.where(colorfulness(weight) < 0.5, gray, torch.pi + hue(weight)).argsort(stable=True)


def hue(weight: Tensor) -> Tensor:
    """(N,) angle on the color circle of each kernel's most colorful weight, in [0, 2 pi); 0 for gray input.

    Of one weight and not of their sum, since the two sides of a color edge cancel.
    """
    if weight.shape[1] != 3:
        return torch.zeros(len(weight))
    red, green, blue = weight.flatten(2).unbind(1)  # (N, k k) each
    x, y = 2 * red - green - blue, 3**0.5 * (green - blue)
    place = (x.square() + y.square()).argmax(1, keepdim=True)
    return torch.atan2(y.gather(1, place), x.gather(1, place))[:, 0] % (2 * torch.pi)


def colorfulness(weight: Tensor) -> Tensor:
    """(N,) share of each kernel's energy that lies off the gray axis, 0 to 1."""
    off = (weight - weight.mean(1, keepdim=True)).square().sum((1, 2, 3))
    return off / weight.square().sum((1, 2, 3)).clamp_min(1e-12)


def orientation(gray: Tensor) -> Tensor:
    """(N,) direction in which (N, h, w) varies most, in [0, pi): 0 for an edge that stands upright."""
    size = 4 * max(gray.shape[1:])  # padded, for a finer grid of frequencies
    spectrum = torch.fft.fft2(gray - gray.mean((1, 2), keepdim=True), s=(size, size)).abs().square()
    fy, fx = torch.meshgrid(torch.fft.fftfreq(size), torch.fft.fftfreq(size), indexing="ij")
    # the double angle makes f and -f the same direction
    radius = (fx.square() + fy.square()).clamp_min(1e-12)
    cos2 = (spectrum * (fx.square() - fy.square()) / radius).sum((1, 2))
    sin2 = (spectrum * 2 * fx * fy / radius).sum((1, 2))
    return (torch.atan2(sin2, cos2) / 2) % torch.pi


def structure(weight: Tensor) -> Tensor:
    """(N,) how far each kernel (N, C, h, w) is from noise, -1 to 1: its correlation with itself moved by one pixel.

    The highest of the four directions: an edge or a line is alike along itself, a color blob in every direction. Of
    white noise of 3 x 7 x 7, 99 in 100 kernels score less than 0.3.
    """
    height, width = weight.shape[-2:]
    centerd = weight - weight.mean((1, 2, 3), keepdim=True)
    scores = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        if height > dy and width > abs(dx):
            here = centerd[..., : height - dy, max(0, -dx) : width - max(0, dx)].flatten(1)
            there = centerd[..., dy:, max(0, dx) : width + min(0, dx)].flatten(1)
            scores.append(torch.nn.functional.cosine_similarity(here, there, dim=1))
    return torch.stack(scores).amax(0) if scores else torch.zeros(len(weight))

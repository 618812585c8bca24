"""The kernels of a convolution as one picture (Krizhevsky et al. 2012, figure 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

GAP = 1  # tile border in kernel pixels


@dataclass(frozen=True)
class Kernels:
    """What to draw: tiles (N, 3, k, k) in [0, 1], and the unit or channel number of each."""

    tiles: Tensor
    numbers: list[int]


def first_layer(weight: Tensor) -> Kernels:
    """Kernels that see colour or gray (N, 3 or 1, k, k): one tile each, colour kernels first, then by frequency.

    Each is scaled on its own, its zero at mid-gray and its largest weight at full range, so that structure shows in
    weak kernels too.
    """
    scaled = weight / weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    order = arrange(weight)
    return Kernels((0.5 + 0.5 * scaled[order]).expand(-1, 3, -1, -1), order.tolist())


def one_unit(weight: Tensor, unit: int) -> Kernels:
    """The kernel of one unit of a deeper layer (N, C, k, k): a gray tile for each input channel, the strongest first.

    All share one scale, so that the strength of the channels can be compared.
    """
    kernel = weight[unit]  # (C, k, k)
    order = kernel.square().sum((1, 2)).argsort(descending=True, stable=True)
    scaled = kernel[order] / kernel.abs().max().clamp_min(1e-12)
    return Kernels((0.5 + 0.5 * scaled)[:, None].expand(-1, 3, -1, -1), order.tolist())


def arrange(weight: Tensor) -> Tensor:
    """An order of first-layer kernels (N, C, k, k): gray edges by orientation, then colour by hue."""
    colour = colourfulness(weight)
    gray = weight.mean(1)  # (N, k, k)
    angle = orientation(gray)
    hue = torch.atan2(
        3**0.5 * (weight[:, 1] - weight[:, 2]).sum((1, 2)), (2 * weight[:, 0] - weight[:, 1] - weight[:, 2]).sum((1, 2))
    ) if weight.shape[1] == 3 else torch.zeros(len(weight))  # fmt: skip
    key = torch.where(colour < 0.5, angle, 10 + hue)
    return key.argsort(stable=True)


def colourfulness(weight: Tensor) -> Tensor:
    """(N,) share of each kernel's energy that lies off the gray axis, 0 to 1."""
    off = (weight - weight.mean(1, keepdim=True)).square().sum((1, 2, 3))
    return off / weight.square().sum((1, 2, 3)).clamp_min(1e-12)


def orientation(gray: Tensor) -> Tensor:
    """(N,) direction of the strongest frequency of (N, k, k), in [0, pi)."""
    k = gray.shape[-1]
    spectrum = torch.fft.fft2(gray - gray.mean((1, 2), keepdim=True), s=(4 * k, 4 * k)).abs().square()
    fy, fx = torch.meshgrid(torch.fft.fftfreq(4 * k), torch.fft.fftfreq(4 * k), indexing="ij")
    # the double angle makes f and -f the same direction
    radius = (fx.square() + fy.square()).clamp_min(1e-12)
    cos2 = (spectrum * (fx.square() - fy.square()) / radius).sum((1, 2))
    sin2 = (spectrum * 2 * fx * fy / radius).sum((1, 2))
    return (torch.atan2(sin2, cos2) / 2) % torch.pi


def structure(weight: Tensor) -> Tensor:
    """(N,) share of each kernel's energy in the lower half of its frequencies, 0 to 1.

    White noise scores the share of the spectrum that the lower half covers (about 0.25); edges and blobs near 1.
    """
    k = weight.shape[-1]
    spectrum = torch.fft.fft2(weight).abs().square().sum(1)  # (N, k, k)
    frequency = torch.fft.fftfreq(k).abs()
    low = (frequency[:, None] <= 0.25) & (frequency[None, :] <= 0.25)
    return spectrum[:, low].sum(1) / spectrum.sum((1, 2)).clamp_min(1e-12)

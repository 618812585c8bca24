"""Colorization of gray images: a network generates the chroma, and the luma is kept."""

import torch
from torch import Tensor, nn

from mlcli.networks.refiner import Refiner
from mlcli.networks.resnet_generator import ResNetGenerator
from mlcli.networks.unet import UNet


class KeepLuminance(nn.Module):
    """Color images whose luma is that of the gray input; the network `chroma` generates the chroma.

    forward: gray (N, 1, H, W) in [-1, 1] -> RGB (N, 3, H, W) in [-1, 1]. chroma: gray -> (N, 2, H, W) in [-1, 1], the
    Cb and Cr of ITU-R BT.601, whose luma `image_io.to_gray` computes. Colors outside the RGB range are clipped, and
    only there the luma changes. (Isola et al. 2017, section 4, use Lab for the same purpose.)
    """

    def __init__(self, chroma: UNet | ResNetGenerator | Refiner) -> None:
        super().__init__()
        self.chroma = chroma

    @property
    def depth(self) -> int:
        """The sides of images must be multiples of 2^depth."""
        return self.chroma.depth

    def forward(self, x: Tensor) -> Tensor:
        blue, red = self.chroma(x).unbind(1)
        gray = x[:, 0]
        green = -(0.299 * 1.402 * red + 0.114 * 1.772 * blue) / 0.587
        return torch.stack([gray + 1.402 * red, gray + green, gray + 1.772 * blue], 1).clamp(-1, 1)

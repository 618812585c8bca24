"""Colors for gray images: a generator of chroma, beside the luma that is known."""

import torch
from torch import Tensor, nn


class KeepLuminance(nn.Module):
    """Images whose luma is that of the gray image given; `chroma`, a network, makes their colors alone.

    forward: gray (N, 1, H, W) in [-1, 1] -> (N, 3, H, W) in [-1, 1]. chroma: the same -> (N, 2, H, W) in [-1, 1], Cb
    and Cr of ITU-R BT.601, in whose luma `images.to_gray` turns images gray. Colors that no screen can show are cut
    off, and there alone the luma changes. (Isola et al. 2017, section 4, colorise in Lab, for the same end.)
    """

    def __init__(self, chroma: nn.Module):
        super().__init__()
        self.chroma = chroma

    @property
    def depth(self) -> int:
        """Sides of images must be multiples of 2^depth."""
        return self.chroma.depth

    def forward(self, x: Tensor) -> Tensor:
        blue, red = self.chroma(x).unbind(1)
        gray = x[:, 0]
        green = -(0.299 * 1.402 * red + 0.114 * 1.772 * blue) / 0.587
        return torch.stack([gray + 1.402 * red, gray + green, gray + 1.772 * blue], 1).clamp(-1, 1)

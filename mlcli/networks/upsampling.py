"""Upsampling by 2 with learned weights: by transposed convolution, or by resizing before a convolution."""

from torch import nn

from mlcli.networks.padding import ReflectionPad2d

UPSAMPLINGS = ("transposed", "resize")


def upsample_by_2(kind: str, inputs: int, outputs: int, kernel: int, *, bias: bool) -> nn.Module:
    """(N, inputs, H, W) -> (N, outputs, 2 H, 2 W).

    kind: 'transposed', a transposed convolution of side `kernel` (3 or 4); or 'resize', nearest-neighbor resizing and
    a 3 x 3 convolution, in which every output pixel is a sum of equally many terms, so that there are no checkerboard
    artifacts (Odena et al. 2016). ValueError for another kind.
    """
    if kind == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, kernel, 2, 1, output_padding=4 - kernel, bias=bias)
    if kind == "resize":
        return nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            ReflectionPad2d(1),
            nn.Conv2d(inputs, outputs, 3, bias=bias),
        )
    raise ValueError(f"{kind}: not a kind of upsampling; one of {', '.join(UPSAMPLINGS)}")

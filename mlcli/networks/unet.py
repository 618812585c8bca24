"""The U-Net generator of pix2pix (Isola et al. 2017, appendix 6.1.1; the network after Ronneberger et al. 2015)."""

import torch
from torch import Tensor, nn

from mlcli.networks.norms import NORMS, SHIFTING
from mlcli.networks.upsampling import doubled


class UNet(nn.Module):
    """Encoder and decoder with a connection across at every scale; 54.4 M parameters with 8 levels and 64 filters.

    forward: (N, inputs, H, W) in [-1, 1], sides multiples of 2^depth -> (N, outputs, H, W) in [-1, 1].
    Down: 4 x 4 convolutions of stride 2 to 64, 128, 256, 512, 512, ... channels; the first has no norm, nor has the
    last, whose map may be one pixel. Up: as many steps back, each on the map of its scale beside what comes from
    below. Dropout is the only noise, in the three innermost steps up that make 512 channels.
    """

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        depth: int = 8,
        filters: int = 64,
        norm: str = "batch",
        dropout: float = 0.5,
        upsampling: str = "transposed",
    ):
        super().__init__()
        self.depth, bias = depth, norm not in SHIFTING
        widths = [filters * min(8, 2**level) for level in range(depth)]
        self.downs = nn.ModuleList([nn.Conv2d(inputs, widths[0], 4, 2, 1)])
        for level in range(1, depth):
            last = level == depth - 1
            convolution = nn.Conv2d(widths[level - 1], widths[level], 4, 2, 1, bias=bias or last)
            after = nn.Identity() if last else NORMS[norm](widths[level])
            # Not in place: what comes in goes across too
            self.downs.append(nn.Sequential(nn.LeakyReLU(0.2), convolution, after))
        self.ups = nn.ModuleList()  # from the innermost to the outermost
        for level in reversed(range(depth)):
            coming = widths[level] * (1 if level == depth - 1 else 2)
            if level == 0:
                last = doubled(upsampling, coming, outputs, 4, bias=True)
                self.ups.append(nn.Sequential(nn.ReLU(), last, nn.Tanh()))
                break
            width = widths[level - 1]
            noisy = dropout > 0 and width == filters * 8 and depth - level <= 3
            self.ups.append(
                nn.Sequential(
                    nn.ReLU(),
                    doubled(upsampling, coming, width, 4, bias=bias),
                    NORMS[norm](width),
                    nn.Dropout(dropout) if noisy else nn.Identity(),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        across = []
        for down in self.downs:
            x = down(x)
            across.append(x)
        x = self.ups[0](across.pop())
        for up in self.ups[1:]:
            x = up(torch.cat([across.pop(), x], 1))
        return x


class Segmenter(UNet):
    """The same network for masks: logits (N, classes, H, W) in place of images, so without the tanh and dropout."""

    def __init__(self, num_classes: int, channels: int = 1, depth: int = 4, filters: int = 16, norm: str = "batch"):
        super().__init__(channels, num_classes, depth, filters, norm, dropout=0.0)
        self.ups[-1] = self.ups[-1][:-1]


def fitting_depth(height: int, width: int, most: int = 8) -> int:
    """How often both sides can be halved, at most `most` times."""
    depth = 0
    while depth < most and height % 2 == width % 2 == 0:
        height, width, depth = height // 2, width // 2, depth + 1
    return depth

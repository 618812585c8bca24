"""The U-Net generator of pix2pix (Isola et al. 2017, appendix 6.1.1), based on Ronneberger et al. 2015."""

import torch
from torch import Tensor, nn

from mlcli.networks.norms import NORMS, SHIFTING
from mlcli.networks.upsampling import upsample_by_2


class UNet(nn.Module):
    """Encoder and decoder with a skip connection at every scale; 54.4 M parameters with 8 levels and 64 filters.

    forward: (N, inputs, H, W) in [-1, 1], sides multiples of 2^depth -> (N, outputs, H, W) in [-1, 1].
    Encoder: 4 x 4 convolutions of stride 2 to 64, 128, 256, 512, 512, ... channels. The first one has no norm, nor the
    last, whose map may be a single pixel. Decoder: as many upsampling steps, each on the concatenation of the encoder's
    map of this scale and the output of the step before. Dropout, in the three innermost steps with 512 channels, is the
    only source of noise.
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
    ) -> None:
        super().__init__()
        self.depth, bias = depth, norm not in SHIFTING
        widths = [filters * min(8, 2**level) for level in range(depth)]
        self.downs = nn.ModuleList([nn.Conv2d(inputs, widths[0], 4, 2, 1)])
        for level in range(1, depth):
            innermost = level == depth - 1
            convolution = nn.Conv2d(widths[level - 1], widths[level], 4, 2, 1, bias=bias or innermost)
            after = nn.Identity() if innermost else NORMS[norm](widths[level])
            # Not in place, since the skip connection needs the input too
            self.downs.append(nn.Sequential(nn.LeakyReLU(0.2), convolution, after))
        self.ups = nn.ModuleList()  # from the innermost to the outermost
        for level in reversed(range(depth)):
            channels = widths[level] * (1 if level == depth - 1 else 2)
            if level == 0:
                last = upsample_by_2(upsampling, channels, outputs, 4, bias=True)
                self.ups.append(nn.Sequential(nn.ReLU(), last, nn.Tanh()))
                break
            width = widths[level - 1]
            noisy = dropout > 0 and width == filters * 8 and depth - level <= 3
            self.ups.append(
                nn.Sequential(
                    nn.ReLU(),
                    upsample_by_2(upsampling, channels, width, 4, bias=bias),
                    NORMS[norm](width),
                    nn.Dropout(dropout) if noisy else nn.Identity(),
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        x = self.ups[0](skips.pop())
        for up in self.ups[1:]:
            x = up(torch.cat([skips.pop(), x], 1))
        return x


class Segmenter(UNet):
    """A U-Net for segmentation: logits (N, classes, H, W), without tanh and dropout."""

    def __init__(
        self, num_classes: int, channels: int = 1, depth: int = 4, filters: int = 16, norm: str = "batch"
    ) -> None:
        super().__init__(channels, num_classes, depth, filters, norm, dropout=0.0)
        outermost = self.ups[-1]
        assert isinstance(outermost, nn.Sequential)
        self.ups[-1] = outermost[:-1]


def fitting_depth(height: int, width: int, most: int = 8) -> int:
    """The number of times that both sides can be halved without remainder, at most `most`."""
    depth = 0
    while depth < most and height % 2 == width % 2 == 0:
        height, width, depth = height // 2, width // 2, depth + 1
    return depth

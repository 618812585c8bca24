"""Discriminators that judge patches (PatchGAN, Isola et al. 2017), at one scale or several (Wang et al. 2018).

Each gives maps of logits, one for each patch, and all its maps on the way for feature matching.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.networks.norms import NORMS, SHIFTING


class Discriminator(nn.Module):
    """Stages one after the other, the last of which gives the logits.

    forward: (N, inputs, H, W) -> logits (N, 1, h, w).  features: the maps of all stages, the logits last.
    """

    def __init__(self, stages: list[nn.Module]):
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def features(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[-1]


class PatchGAN(Discriminator):
    """C64-C128-C256-C512-1, 4 x 4 convolutions; each logit sees 70 x 70 pixels with 3 `layers`; 2.8 M parameters.

    `layers` are those of stride 2; two of stride 1 follow. The first stage has no norm. 0 layers is the PixelGAN, 1 x 1
    convolutions throughout, as in the paper's comparison.
    """

    def __init__(self, inputs: int = 3, filters: int = 64, layers: int = 3, norm: str = "batch"):
        bias = norm not in SHIFTING
        kernel, padding = (4, 1) if layers else (1, 0)
        strides = [2] * layers + [1] if layers else [1, 1]
        stages, width = [], inputs
        for level, stride in enumerate(strides):
            wider = filters * min(8, 2**level)
            convolution = nn.Conv2d(width, wider, kernel, stride, padding, bias=bias or level == 0)
            after = NORMS[norm](wider) if level else nn.Identity()
            stages.append(nn.Sequential(convolution, after, nn.LeakyReLU(0.2, inplace=True)))
            width = wider
        stages.append(nn.Conv2d(width, 1, kernel, 1, padding))
        super().__init__(stages)


class MultiScale(nn.Module):
    """Discriminators of one kind for the image, its half, its quarter, ... (pix2pixHD).

    forward: (N, inputs, H, W) -> [logits at each scale].  features: [maps of all stages at each scale].
    """

    def __init__(self, discriminators: list[Discriminator]):
        super().__init__()
        self.scales = nn.ModuleList(discriminators)

    def features(self, x: Tensor) -> list[list[Tensor]]:
        maps = []
        for number, discriminator in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            maps.append(discriminator.features(x))
        return maps

    def forward(self, x: Tensor) -> list[Tensor]:
        return [maps[-1] for maps in self.features(x)]

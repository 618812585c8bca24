"""Discriminators of patches (PatchGAN, Isola et al. 2017), at one scale or several (Wang et al. 2018).

Each returns a map of logits, one for each patch, or the maps of all its stages for feature matching.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.networks.norms import NORMS, SHIFTING


class Discriminator(nn.Module):
    """A sequence of stages, of which the last one computes the logits.

    forward: (N, inputs, H, W) -> logits (N, 1, h, w).  features: the maps of all stages, the logits last.
    """

    def __init__(self, stages: list[nn.Module]) -> None:
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
    """C64-C128-C256-C512-1, 4 x 4 convolutions; with 3 `layers` the receptive field is 70 x 70; 2.8 M parameters.

    layers: convolutions of stride 2; two of stride 1 follow. The first stage has no norm. With 0 layers it is the
    PixelGAN of the paper's comparison, with 1 x 1 convolutions throughout.
    """

    def __init__(self, inputs: int = 3, filters: int = 64, layers: int = 3, norm: str = "batch") -> None:
        bias = norm not in SHIFTING
        kernel, padding = (4, 1) if layers else (1, 0)
        strides = [2] * layers + [1] if layers else [1, 1]
        stages: list[nn.Module] = []
        width = inputs
        for level, stride in enumerate(strides):
            wider = filters * min(8, 2**level)
            convolution = nn.Conv2d(width, wider, kernel, stride, padding, bias=bias or level == 0)
            after = NORMS[norm](wider) if level else nn.Identity()
            stages.append(nn.Sequential(convolution, after, nn.LeakyReLU(0.2, inplace=True)))
            width = wider
        stages.append(nn.Conv2d(width, 1, kernel, 1, padding))
        super().__init__(stages)


class MultiScale(nn.Module):
    """Equal discriminators of the image at full, half, quarter, ... resolution (pix2pixHD).

    forward: (N, inputs, H, W) -> [logits at each scale].  features: [maps of all stages at each scale].
    """

    def __init__(self, discriminators: list[Discriminator]) -> None:
        super().__init__()
        self.scales = nn.ModuleList(discriminators)

    def features(self, x: Tensor) -> list[list[Tensor]]:
        maps = []
        for number, discriminator in enumerate(self.scales):
            assert isinstance(discriminator, Discriminator)
            if number:
                x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
            maps.append(discriminator.features(x))
        return maps

    def forward(self, x: Tensor) -> list[Tensor]:
        return [maps[-1] for maps in self.features(x)]

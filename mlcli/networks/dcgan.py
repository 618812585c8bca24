"""Generator and discriminator for small images: DCGAN (Radford et al. 2016) as in table 3 of Miyato et al. 2018.

With classes the generator's batch norms are conditional and the discriminator ends in a projection (Miyato and Koyama
2018), as in BigGAN (Brock et al. 2019), at a size that two cores can train.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mlcli.networks.initialization import initialize
from mlcli.networks.upsampling import upsample_by_2

MAX_WIDTH = 8  # channels of the widest layer, as a multiple of `filters`


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with a scale and a shift for each class (Dumoulin et al. 2017).

    forward: (N, C, H, W), labels (N,) -> (N, C, H, W).  Without classes it is plain batch norm, and labels are ignored.
    """

    def __init__(self, channels: int, classes: int = 0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        # The difference of each class from the common scale and shift; 0 at first
        self.classes = nn.Embedding(classes, 2 * channels) if classes else None
        if self.classes is not None:
            nn.init.zeros_(self.classes.weight)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        if self.classes is None:
            return x
        scale, shift = self.classes(labels).to(x.dtype)[:, :, None, None].chunk(2, 1)
        return torch.addcmul(x + shift, x, scale)


class Generator(nn.Module):
    """A linear layer to a map of side 4 to 7, upsampling by 2 with batch norm and ReLU, a 3 x 3 convolution, tanh.

    forward: latent (N, latent) from N(0, 1), labels (N,) or None -> images (N, channels, size, size) in [-1, 1].
    A size that is not a multiple of the upsampling factor is cropped from the center of the next larger size.
    """

    def __init__(
        self, size: int = 32, channels: int = 3, latent: int = 128, filters: int = 64, classes: int = 0
    ) -> None:
        super().__init__()
        self.options = {"size": size, "channels": channels, "latent": latent, "filters": filters, "classes": classes}
        self.size, self.latent = size, latent
        doublings = max(1, int(math.log2(size / 4)))
        self.base = math.ceil(size / 2**doublings)
        widths = [filters * min(MAX_WIDTH, 2**level) for level in reversed(range(doublings + 1))]
        self.linear = nn.Linear(latent, widths[0] * self.base**2)
        self.doublings = nn.ModuleList(
            upsample_by_2("transposed", wide, narrow, 4, bias=False)
            for wide, narrow in zip(widths[:-1], widths[1:], strict=True)
        )
        self.norms = nn.ModuleList(ConditionalBatchNorm2d(width, classes) for width in widths)
        self.last = nn.Conv2d(widths[-1], channels, 3, padding=1)
        initialize(self)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        # In the channels-last format, which is the fastest for the convolutions
        x = self.linear(latent).unflatten(1, (self.base, self.base, -1)).permute(0, 3, 1, 2)
        x = self.norms[0](x, labels).relu()
        for double, norm in zip(self.doublings, self.norms[1:], strict=True):
            x = norm(double(x), labels).relu()
        x = self.last(x).tanh()
        margin = (x.shape[-1] - self.size) // 2
        return x[:, :, margin : margin + self.size, margin : margin + self.size]


class Discriminator(nn.Module):
    """3 x 3 convolutions with 1, 2, 4, 8 times `filters` channels, between them 4 x 4 of stride 2; leaky ReLU.

    forward: images (N, channels, size, size) in [-1, 1], labels (N,) or None -> logits (N,).
    The logit is w . h, where h is the last map; with classes, v_y . (sum of h over all positions) is added (Miyato and
    Koyama 2018, eq. 4). There is no norm, so each image is treated by itself; `spectral`: spectral normalization.
    """

    def __init__(
        self, size: int = 32, channels: int = 3, filters: int = 64, classes: int = 0, spectral: bool = True
    ) -> None:
        super().__init__()
        halvings = max(1, int(math.log2(size / 4)))
        widths = [filters * min(MAX_WIDTH, 2**level) for level in range(halvings + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1)]
        for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(narrow, narrow, 4, 2, 1)]
            layers += [nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(narrow, wide, 3, padding=1)]
        layers.append(nn.LeakyReLU(0.1, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.linear = nn.Linear(widths[-1] * (size // 2**halvings) ** 2, 1)
        self.classes = nn.Embedding(classes, widths[-1]) if classes else None
        initialize(self)
        if spectral:
            for module in self.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
                    spectral_norm(module)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        h = self.layers(images)
        logits = self.linear(h.flatten(1)).squeeze(1)
        if self.classes is None:
            return logits
        return logits + (self.classes(labels) * h.sum((2, 3))).sum(1)

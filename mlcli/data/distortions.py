"""Random distortions of a batch of images: affine, a smooth warp, brightness and contrast, drawn for each image."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

KNOTS = 4  # along each side of the warp


@dataclass(frozen=True)
class Distortion:
    """The largest distortions; each is drawn uniformly between minus and plus the value given here.

    rotation: degrees. scale: logarithm of the factor of each side. shear: tangent of the angle. shift: fraction of the
    side. warp: standard deviation of the displacements of 4 x 4 knots, as a fraction of the side, between which the
    field is smooth. contrast: logarithm of the factor, and twice the change of brightness in units of white.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    warp: float = 0.0
    contrast: float = 0.0

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """(n, 8 + 2 * KNOTS^2): the random numbers that `apply` takes for n images."""
        even = torch.rand(n, 8, generator=random) * 2 - 1
        return torch.cat([even, torch.randn(n, 2 * KNOTS * KNOTS, generator=random)], 1)

    def around(self, count: int) -> Tensor:
        """(count, ...) for `apply`, count at most 5: no distortion, the largest rotations, the largest scales."""
        views = torch.zeros(5, 8 + 2 * KNOTS * KNOTS)
        views[1, 0], views[2, 0], views[3, 1:3], views[4, 1:3] = 1, -1, 1, -1
        return views[:count]

    def grid(self, drawn: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, H, W, 2): where in an image, from -1 to 1, each pixel of the distorted one of this size comes from."""
        angle, x_scale, y_scale, shear, x, y, _, _ = drawn[:, :8].T
        cos, sin = (self.rotation * math.pi / 180 * angle).cos(), (self.rotation * math.pi / 180 * angle).sin()
        x_scale, y_scale = (self.scale * x_scale).exp(), (self.scale * y_scale).exp()
        shear, x, y = self.shear * shear, 2 * self.shift * x, 2 * self.shift * y  # coordinates run from -1 to 1
        # diag(scales) . shear . rotation, then the shift
        rows = [x_scale * (cos + shear * sin), x_scale * (shear * cos - sin), x, y_scale * sin, y_scale * cos, y]
        matrices = torch.stack(rows, 1).view(-1, 2, 3)
        coordinates = F.affine_grid(matrices, [len(matrices), 1, *size], align_corners=False)
        if self.warp:
            knots = 2 * self.warp * drawn[:, 8:].view(-1, 2, KNOTS, KNOTS)
            field = F.interpolate(knots, size=size, mode="bicubic", align_corners=True)
            coordinates = coordinates + field.permute(0, 2, 3, 1)
        return coordinates

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """(N, C, S, S) in [0, 1], distorted by `drawn` (N, ...), of `draw`; outside, the border pixels are repeated."""
        size = (images.shape[2], images.shape[3])
        images = sampled(images, self.grid(drawn, size))
        if self.contrast:
            contrast, light = drawn[:, 6], drawn[:, 7]
            factor, more = (self.contrast * contrast).exp(), self.contrast / 2 * light
            images = ((images - 0.5) * factor[:, None, None, None] + 0.5 + more[:, None, None, None]).clamp(0, 1)
        return images


def sampled(images: Tensor, grid: Tensor) -> Tensor:
    """Images (N, C, H, W) at the positions of a grid (N, H, W, 2); outside, the border pixels are repeated."""
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)

"""Images of a pendulum, in the styles of two cameras, in place of those of a laboratory.

The rod turns about the middle of the image. Angles are those of the equations: 0 upright, positive counterclockwise as
gymnasium draws them. A style is a rod, a wall and a camera; the drawn images of one number and seed show the same angle
in both, so that styles differ in appearance alone. Everything is drawn from distances, without a rasterizer.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcli.runtime.random_streams import rng

ANGLES = tuple(range(0, 360, 5))  # degrees, the classes of drawn images
LENGTH = 0.8  # of the rod, where the middle of the image is 0 and its edge 1


@dataclass(frozen=True)
class Style:
    """Appearance of a pendulum. Each pair is the range of a uniform distribution, levels and noise are in [0, 1].

    rod, wall: brightness.  width: of the rod, relative to half of the image.  weight: radius of the disk at its end, in
    widths.  light: greatest difference in brightness between opposite edges of the wall.  noise: standard deviation of
    the noise of each pixel.
    """

    rod: tuple[float, float]
    wall: tuple[float, float]
    width: tuple[float, float]
    weight: float
    light: float
    noise: tuple[float, float]


STYLES = {
    # A bright rod in front of a dark curtain
    "a": Style((0.8, 1.0), (0.0, 0.1), (0.14, 0.2), 0.5, 0.0, (0.0, 0.04)),
    # A thin gray rod with a weight at its end, on a bright wall with light from one side, by a noisy camera
    "b": Style((0.15, 0.4), (0.7, 0.9), (0.08, 0.11), 1.6, 0.3, (0.04, 0.1)),
}


def labeled(number: int, seed: int, size: int = 32, style: str = "a") -> tuple[Tensor, int]:
    """(gray image (size, size) uint8, the nearest of ANGLES) of this number in the series of the seed."""
    label = ANGLES[number % len(ANGLES)]
    apart = ANGLES[1] * (torch.rand(1, generator=rng(seed, "pendulum-images/angle", number)) - 0.5)
    angle = torch.deg2rad(label + apart)
    return drawn(angle, rng(seed, "pendulum-images/style", number, sorted(STYLES).index(style)), size, style)[0], label


def drawn(angles: Tensor, random: torch.Generator, size: int = 32, style: str = "a") -> Tensor:
    """Gray images (N, size, size) uint8 of angles (N,) in radians, whose appearance differs at random."""
    known, count = STYLES[style], len(angles)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=random)

    rod, wall, width, noise = (uniform(*each) for each in (known.rod, known.wall, known.width, known.noise))
    light, direction = uniform(0.0, known.light), uniform(0.0, 2 * math.pi)
    edge = (torch.arange(size) + 0.5) / size * 2 - 1
    x, y = edge, -edge[:, None]  # y upward
    angles = angles.float()[:, None, None]
    along = y * angles.cos() - x * angles.sin()  # (N, S, S), from the axle toward the end of the rod
    across = x * angles.cos() + y * angles.sin()
    to_rod = torch.hypot(across, along - along.clamp(0, LENGTH)) - width / 2
    to_weight = torch.hypot(across, along - LENGTH) - known.weight * width
    inside = (0.5 - torch.minimum(to_rod, to_weight) * size / 2).clamp(0, 1)  # over a pixel from the edge inward
    lit = wall + light / 2 * (x * direction.cos() + y * direction.sin())
    values = lit + (rod - lit) * inside + noise * torch.randn(count, size, size, generator=random)
    return (values * 255 + 0.5).clamp(0, 255).to(torch.uint8)

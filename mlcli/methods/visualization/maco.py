"""MACO: activation maximization with the magnitude spectrum of photographs, of which only the phases are optimized.

Fel et al. 2023, Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization. An image
is x = F^-1(r e^(i phi)): the magnitudes r are the mean of those of real images and never change, so no frequency can
grow stronger than it is in them; the phases phi are the unknowns. The network is given random crops of the image with
noise.

Deviations: The paper measures r on ImageNet, on images of the size that is optimized. Here it is measured on images
that the user names, or it is the power law that holds for photographs (`Spectrum.natural`), with the colors of the
model's own training data. The paper's images have 1,280 pixels and crops of a fifth to a quarter of that; the images
here are little larger than what a network takes, so a crop has at least half of their side. The map of transparency is
not drawn.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.methods.visualization.color_decorrelation import Colors
from mlcli.methods.visualization.configs import SMALL
from mlcli.methods.visualization.parametrization import Transforms, sample_reflected
from mlcli.runtime.random_streams import rng

# Mean magnitudes of photographs, in coordinates of `Colors` and with the orthonormal transform: AMPLITUDE f^-EXPONENT
# at f cycles per pixel. MEAN is the mean magnitude of an image's mean value.
AMPLITUDE, EXPONENT, MEAN = 0.12, 1.3, 1.4
CENTERS = 0.15  # standard deviation of the centers of crops, as a fraction of the side


@dataclass(frozen=True)
class Spectrum:
    """Mean magnitudes (C, H, W // 2 + 1) of images (height, width), in coordinates of `Colors`."""

    magnitudes: Tensor
    size: tuple[int, int]

    @classmethod
    def natural(cls, channels: int, size: tuple[int, int]) -> "Spectrum":
        """That of photographs, which is the same power law at each size."""
        height, width = size
        f = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
        magnitudes = AMPLITUDE * f.clamp_min(1 / max(size)) ** -EXPONENT
        magnitudes[0, 0] = MEAN * math.sqrt(height * width)
        return cls(magnitudes.expand(channels, -1, -1), size)

    @classmethod
    def measured(cls, images: Iterable[Tensor], colors: Colors) -> "Spectrum":
        """The mean over images (C, H, W) in [0, 1], all of one size."""
        total, count = torch.zeros(()), 0
        size = (0, 0)
        for image in images:
            total = total + torch.fft.rfft2(colors.coordinates(image[None])[0], norm="ortho").abs()
            size, count = (image.shape[1], image.shape[2]), count + 1
        return cls(total / max(1, count), size)

    def at(self, size: tuple[int, int]) -> "Spectrum":
        """That of the same images, resized to no larger a size: their lower frequencies."""
        if size == self.size:
            return self
        height, width = size
        rows = torch.fft.fftfreq(height, 1 / height).round().long()
        scale = math.sqrt(height * width / (self.size[0] * self.size[1]))
        return Spectrum(scale * self.magnitudes[:, rows, : width // 2 + 1], size)


class Phases:
    """The parametrization of MACO; its unknowns are the phases (N, C, H, W // 2 + 1)."""

    def __init__(self, phases: Tensor, size: tuple[int, int], spectrum: Spectrum):
        self.size, self.spectrum = size, spectrum
        self.magnitudes = spectrum.at(size).magnitudes.to(phases.device)
        self.unknown = phases.clone().requires_grad_()

    def like(self, values: Tensor) -> "Phases":
        """A new parametrization with the phases of these values (N, C, H, W), and the spectrum of their size."""
        phases = torch.fft.rfft2(values).angle()
        return Phases(phases, (values.shape[2], values.shape[3]), self.spectrum)

    def to(self, device: torch.device) -> "Phases":
        self.unknown = self.unknown.detach().to(device).requires_grad_()
        self.magnitudes = self.magnitudes.to(device)
        return self

    def __call__(self) -> Tensor:
        spectrum = torch.polar(self.magnitudes.expand_as(self.unknown), self.unknown)
        return torch.fft.irfft2(spectrum, self.size, norm="ortho")


@dataclass(frozen=True)
class FixedMagnitudes:
    """Makes the parametrizations of one spectrum, as the classes of `parametrization.PARAMETRIZATIONS` do of any."""

    spectrum: Spectrum

    def noise(
        self, shape: Sequence[int], seed: int, *, first: int = 0, sequence_length: int = 1, exponent: float = 1.0
    ) -> Phases:
        """Random phases for images of `shape` (N, C, H, W), those of each image by its index; no sequences."""
        n, channels, height, width = shape
        drawn = [
            torch.rand(channels, height, width // 2 + 1, generator=rng(seed, "maco/phases", number))
            for number in range(first, first + n)
        ]
        return Phases(math.tau * torch.stack(drawn) - math.pi, (height, width), self.spectrum)

    def from_values(self, start: Tensor, *, exponent: float = 1.0) -> Phases:
        """The phases of `start` (N, C, H, W)."""
        return Phases(torch.zeros(()), self.spectrum.size, self.spectrum).like(start)


@dataclass(frozen=True)
class Crops(Transforms):
    """Random square crops of an image in place of other transforms, resized to `window`, with noise.

    number: of crops at each step. smallest, largest: side of a crop as a fraction of the image's. noise: standard
    deviation of the noise, in values in [0, 1].
    """

    number: int = 2
    smallest: float = 0.5
    largest: float = 1.0
    noise: float = 0.05

    @classmethod
    def of(cls, side: int) -> "Crops":
        """Those of images for a network of this side; few pixels show an object only as a whole."""
        window = (side, side)
        return cls(window=window, number=1, smallest=0.7, noise=0.03) if side <= SMALL else cls(window=window)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """One row of `number` crops."""
        return 1, self.number

    def __call__(
        self, images: Tensor, seed: int, step: int, *, first: int = 0, sequence_length: int = 1, number: int = 0
    ) -> Tensor:
        """The crops (N, C, *window) with this number of the images (N, C, H, W); arguments are as in `Transforms`."""
        n, channels, *whole = images.shape
        size = self.window_size(*whole)
        generator = rng(seed, "maco/crops", step)
        drawn = torch.rand(first + n, self.number, 3, generator=generator)[first:, number]
        side = self.smallest + (self.largest - self.smallest) * drawn[:, 0]
        # Centers from a normal distribution, such that the crop is inside
        normal = torch.special.ndtri(drawn[:, 1:].clamp(1e-4, 1 - 1e-4)) * CENTERS
        center = torch.maximum(torch.minimum(2 * normal, 1 - side[:, None]), side[:, None] - 1)
        zero = torch.zeros_like(side)
        theta = torch.stack([side, zero, center[:, 0], zero, side, center[:, 1]], 1).view(n, 2, 3).to(images.device)
        crops = sample_reflected(images, F.affine_grid(theta, [n, channels, *size], align_corners=False))
        if not self.noise:
            return crops
        noise = [
            torch.randn(channels, *size, generator=rng(seed, "maco/noise", step, number, index))
            for index in range(first, first + n)
        ]
        return crops + self.noise * torch.stack(noise).to(crops)

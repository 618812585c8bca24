"""Images as the unknowns of an optimization: parametrizations, random transforms, and gradient ascent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.errors import MlcliError
from mlcli.methods.visualization.color_decorrelation import Colors
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import Adam

SPREAD = 0.01  # standard deviation of the noise that images start from
# The frames of a sequence share the low frequencies of their spectrum: wavelengths of at least SHARED_PIXELS pixels,
# and at most SHARED_CYCLES cycles along the longer side
SHARED_PIXELS, SHARED_CYCLES = 8, 4


@dataclass(frozen=True)
class Transforms:
    """Random transforms of an image before it enters the network, drawn again for each image and step.

    jitter (fraction of the side), scale (fraction) and rotation (degrees) are each drawn uniformly between minus and
    plus this value. One bilinear interpolation applies all three, which blurs less than three in a row.
    window: the largest (height, width) that the network is given at once; None for the whole image. A larger image is
    covered by a grid of cells of about the window's size, with one window at a random position in each cell. The
    positions change with the step, so no seam between windows is ever fixed and every position of the image is seen.
    """

    jitter: float = 0
    scale: float = 0
    rotation: float = 0
    window: tuple[int, int] | None = None

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Number of windows on an image (height, width), as (rows, columns)."""
        h, w = self.window_size(height, width)
        return round(height / h), round(width / w)

    def window_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (height, width) of each window on an image (height, width)."""
        return (height, width) if self.window is None else (min(height, self.window[0]), min(width, self.window[1]))

    def __call__(
        self, images: Tensor, seed: int, step: int, *, first: int = 0, sequence_length: int = 1, number: int = 0
    ) -> Tensor:
        """The images (N, C, H, W), shifted, resized and rotated with reflected borders, seen through one window.

        first: index of the first image, which selects its random numbers. Each `sequence_length` consecutive images are
        transformed in the same way. number: index of the window, row by row. Returns (N, C, *window_size).
        """
        n, channels, height, width = images.shape
        h, w = self.window_size(height, width)
        if not (self.jitter or self.scale or self.rotation) and (h, w) == (height, width):
            return images
        rows, columns = self.grid(height, width)
        row, column = divmod(number, columns)
        drawn = (
            torch.rand(
                (first + n) // sequence_length, rows * columns, 4, generator=rng(seed, "maximize/transform", step)
            )
            * 2
            - 1
        )
        drawn = drawn[first // sequence_length :, number].repeat_interleave(sequence_length, 0)
        angle = math.radians(self.rotation) * drawn[:, 0]
        size = 1 + self.scale * drawn[:, 1]
        cos, sin = angle.cos() / size, angle.sin() / size
        # Center of the window relative to the center of the image, in pixels
        x = (width - w + 2 * self.jitter * w) * ((2 * column + 1 + drawn[:, 2]) / (2 * columns) - 0.5)
        y = (height - h + 2 * self.jitter * h) * ((2 * row + 1 + drawn[:, 3]) / (2 * rows) - 0.5)
        # The coordinates of the window and of the image both run from -1 to 1, whatever their sizes
        terms = [cos * w / width, -sin * h / width, 2 * x / width, sin * w / height, cos * h / height, 2 * y / height]
        theta = torch.stack(terms, 1).view(n, 2, 3).to(images.device)
        positions = F.affine_grid(theta, [n, channels, h, w], align_corners=False)
        return sample_reflected(images, positions)


def sample_reflected(images: Tensor, positions: Tensor) -> Tensor:
    """Bilinear samples (N, C, h, w) of images (N, C, H, W), which are reflected beyond their borders.

    positions: (N, h, w, 2), x and y, from -1 to 1 between the borders. On a GPU the gradient of `grid_sample` is summed
    in another order in every run, so `sample_reflected_by_index` takes its place there.
    """
    if images.is_cuda:
        return sample_reflected_by_index(images, positions)
    return F.grid_sample(images, positions, padding_mode="reflection", align_corners=False)


def sample_reflected_by_index(images: Tensor, positions: Tensor) -> Tensor:
    """The same as `sample_reflected`: a weighted sum of the four pixels around each position, gathered by index."""
    numbers, corners = torch.arange(len(images), device=images.device)[:, None, None], []
    for axis, side in ((0, images.shape[3]), (1, images.shape[2])):
        along = (((positions[..., axis] + 1) * side - 1) / 2 + 0.5).remainder(2 * side)
        along = (torch.minimum(along, 2 * side - along) - 0.5).clamp(0, side - 1)
        low = along.floor().clamp(max=max(side - 2, 0))
        corners.append(((low.long(), 1 - along + low), ((low.long() + 1).clamp(max=side - 1), along - low)))
    terms = [
        images[numbers, :, row, column] * (by_row * by_column)[..., None]
        for row, by_row in corners[1]
        for column, by_column in corners[0]
    ]
    return reduce(torch.add, terms).permute(0, 3, 1, 2)


def windows(images: Tensor, transforms: Transforms) -> list[Tensor]:
    """Evenly spaced windows (N, C, *window) of images (N, C, H, W), without random transforms."""
    height, width = images.shape[2:]
    h, w = transforms.window or (height, width)
    rows, columns = transforms.grid(height, width)
    tops, lefts = _evenly(height - h, rows), _evenly(width - w, columns)
    return [images[:, :, top : top + h, left : left + w] for top in tops for left in lefts]


def _evenly(room: int, n: int) -> list[int]:
    """n evenly spaced integers from 0 to `room`; the middle if n is 1."""
    return [room // 2] if n == 1 else [room * i // (n - 1) for i in range(n)]


class Pixels:
    """The pixel parametrization: the values x (N, C, H, W) are the unknowns themselves."""

    def __init__(self, start: Tensor):
        self.unknown = start.clone().requires_grad_()

    @classmethod
    def noise(
        cls, shape: Sequence[int], seed: int, *, first: int = 0, sequence_length: int = 1, exponent: float = 1.0
    ) -> "Pixels":
        """Noise of `shape` (N, C, H, W) to start from, as in `Fourier.noise`; `exponent` has no effect here."""
        return cls(_noise(shape, seed, first, sequence_length))

    @classmethod
    def from_values(cls, start: Tensor, *, exponent: float = 1.0) -> "Pixels":
        """The parametrization whose values are `start` (N, C, H, W); `exponent` has no effect here."""
        return cls(start)

    def like(self, values: Tensor) -> "Pixels":
        """A new parametrization with these values (N, C, H, W)."""
        return Pixels(values)

    def to(self, device: torch.device) -> "Pixels":
        self.unknown = self.unknown.detach().to(device).requires_grad_()
        return self

    def __call__(self) -> Tensor:
        return self.unknown


class Fourier:
    """The Fourier parametrization: x = F^-1(spectrum * s) / 4, s = 1 / max(f, 1 / longer side) (Olah et al. 2017).

    The spectrum (N, C, H, W // 2 + 1, 2) is the unknown. After this scaling all frequencies of a photograph have about
    the same energy, so a step changes large shapes as readily as fine ones.
    exponent: power to which s is raised, its mean square kept; above 1 a step changes large shapes more.
    highest: highest frequency, in cycles along the longer side; above it the spectrum is zero.
    """

    def __init__(self, spectrum: Tensor, size: Sequence[int], exponent: float = 1.0, highest: float = math.inf):
        height, width = self.size = tuple(size)
        self.exponent, self.highest = exponent, highest
        f = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
        inverse = 1 / f.clamp_min(1 / max(height, width))
        power = inverse**exponent
        power = power * (inverse.square().mean() / power.square().mean()).sqrt()
        self.scale = torch.where(f * max(height, width) <= highest, power, 0.0)[..., None] / 4
        self.unknown = spectrum.clone().requires_grad_()

    @classmethod
    def noise(
        cls, shape: Sequence[int], seed: int, *, first: int = 0, sequence_length: int = 1, exponent: float = 1.0
    ) -> "Fourier":
        """Noise of `shape` (N, C, H, W) to start from.

        first: index of the first image, which selects its random numbers. Each `sequence_length` consecutive images are
        the same.
        """
        n, channels, height, width = shape
        return cls(
            _noise((n, channels, height, width // 2 + 1, 2), seed, first, sequence_length), (height, width), exponent
        )

    @classmethod
    def from_values(cls, start: Tensor, *, exponent: float = 1.0, highest: float = math.inf) -> "Fourier":
        """The parametrization whose values are `start` (N, C, H, W) without its frequencies above `highest`."""
        spectrum = torch.view_as_real(torch.fft.rfft2(start, norm="ortho"))
        fourier = cls(spectrum, start.shape[-2:], exponent, highest).to(start.device)
        with torch.no_grad():
            fourier.unknown.copy_(torch.where(fourier.scale > 0, fourier.unknown / fourier.scale, 0.0))
        return fourier

    def like(self, values: Tensor) -> "Fourier":
        """A new parametrization with the same exponent and highest frequency, and these values (N, C, H, W)."""
        return Fourier.from_values(values, exponent=self.exponent, highest=self.highest)

    def to(self, device: torch.device) -> "Fourier":
        self.unknown = self.unknown.detach().to(device).requires_grad_()
        self.scale = self.scale.to(device)
        return self

    def __call__(self) -> Tensor:
        return torch.fft.irfft2(torch.view_as_complex(self.unknown * self.scale), self.size, norm="ortho")


PARAMETRIZATIONS: dict[str, type[Fourier] | type[Pixels]] = {"fourier": Fourier, "pixel": Pixels}


def _noise(shape: Sequence[int], seed: int, first: int, sequence_length: int) -> Tensor:
    """Normal noise that depends on the index of each image alone, and not on the batch that it is in."""
    numbers = range(first // sequence_length, (first + shape[0]) // sequence_length)
    rows = [torch.randn(tuple(shape[1:]), generator=rng(seed, "maximize/noise", number)) for number in numbers]
    return SPREAD * torch.stack(rows).repeat_interleave(sequence_length, 0)


class Parametrization(Protocol):
    """Values (N, C, H, W) as a function of what is optimized, `unknown`."""

    unknown: Tensor

    def __call__(self) -> Tensor: ...

    def like(self, values: Tensor) -> "Parametrization":
        """A new parametrization of these values, which may be of another size."""
        ...

    def to(self, device: torch.device) -> "Parametrization": ...


class Images:
    """The images (N, C, H, W) in (0, 1) that an optimization changes: the values of a parametrization as colors.

    first: index of the first image. sequence_length: number of consecutive images that are frames of one sequence. They
    share the low frequencies of their spectrum and are transformed in the same way, so that what they show stays at
    one position (after the interpolations of Olah et al. 2017).
    """

    def __init__(
        self, own: Parametrization, colors: Colors, device: torch.device, *, first: int = 0, sequence_length: int = 1
    ):
        self.colors, self.first, self.sequence_length = colors, first, sequence_length
        self.parts: list[Parametrization] = [own.to(device)]
        if sequence_length > 1:
            n, channels, height, width = own().shape
            nothing = torch.zeros(n // sequence_length, channels, height, width // 2 + 1, 2)
            highest = min(SHARED_CYCLES, max(height, width) / SHARED_PIXELS)
            self.parts.append(Fourier(nothing, (height, width), highest=highest).to(device))

    @torch.no_grad()
    def enlarge(self, size: Sequence[int], more: Tensor | None = None) -> None:
        """Resize the images to `size` (height, width). more: detail to add, (1, C, *size), in `Colors` coordinates."""
        values = [F.interpolate(part(), tuple(size), mode="bicubic", antialias=True) for part in self.parts]
        if more is not None:
            values[0] += more.to(values[0].device)
        self.parts = [part.like(value) for part, value in zip(self.parts, values, strict=True)]

    @torch.no_grad()
    def take(self, sources: Tensor) -> None:
        """Replace each image with a copy of the image of this index (N,), which is in the same sequence."""
        unknown = self.parts[0].unknown
        unknown.copy_(unknown[sources.to(unknown.device)])

    def __call__(self) -> Tensor:
        x = self.parts[0]()
        for shared in self.parts[1:]:
            x = x + shared().repeat_interleave(self.sequence_length, 0)
        return self.colors.images(x)


def ascend(
    images: Images,
    objective: Callable[[Tensor, Tensor, int], Tensor],
    *,
    steps: range,
    lr: Callable[[int], float],
    transforms: Transforms,
    seed: int,
    runtime: Runtime,
    on_step: Callable[[int, float, Tensor], None] | None = None,
) -> None:
    """Maximize the mean of the objective over the windows of the images, by Adam.

    objective(window, images, step) -> (N,): takes a transformed window and the whole images.
    steps: indices of the steps; random numbers depend on seed and step alone. lr: learning rate of a step.
    on_step(step, mean objective, images) is called before the images change. Raises MlcliError for a value that is not
    a finite number.
    """
    optimizer = Adam([part.unknown for part in images.parts])
    for step in steps:
        optimizer.param_groups[0]["lr"] = lr(step)
        drawn = images()
        rows, columns = transforms.grid(*drawn.shape[2:])
        leaf = drawn.detach().requires_grad_()
        mean = 0.0
        for number in range(rows * columns):  # one at a time, so that memory does not grow with the image
            window = transforms(
                leaf, seed, step, first=images.first, sequence_length=images.sequence_length, number=number
            )
            with runtime.autocast():
                values = objective(window, leaf, step) / (rows * columns)
            mean += values.mean().item()
            if not math.isfinite(mean):
                raise MlcliError(
                    f"the objective is not a finite number at step {step}; take a smaller --lr or --precision fp32"
                )
            (-values.sum()).backward()
        if on_step is not None:
            on_step(step, mean, drawn.detach())
        optimizer.zero_grad()
        drawn.backward(leaf.grad)
        optimizer.step()

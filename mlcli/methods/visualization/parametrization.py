"""Images as the unknowns of an optimization: parametrizations, robust transforms, and the ascent itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.errors import MlcliError
from mlcli.methods.visualization.color_decorrelation import Colors
from mlcli.runtime.device import Runtime
from mlcli.runtime.random_streams import rng

SPREAD = 0.01  # standard deviation of the noise that images start from
# Frames that are to be aligned have a spectrum in common, of what is large: of shapes of at least so many pixels, and
# of at most so many cycles from side to side
SHARED_PIXELS, SHARED_CYCLES = 8, 4


@dataclass(frozen=True)
class Transforms:
    """What an image goes through before the network sees it, drawn anew for each image and step.

    jitter: fraction of the side, scale: fraction, rotation: degrees; each drawn evenly between minus and plus this
    number. One bilinear interpolation does all three, which blurs less than one after the other.
    window: (height, width) of what the network sees of the image at once, at most; None is all of it. Of a larger image
    it sees several windows, one in each cell of a grid that has about their size, at random positions that change with
    the step. So no border between them is ever fixed, and every position of the image is seen.
    """

    jitter: float = 0
    scale: float = 0
    rotation: float = 0
    window: tuple[int, int] | None = None

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the windows on an image (height, width)."""
        h, w = self.seen(height, width)
        return round(height / h), round(width / w)

    def seen(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the windows on an image (height, width)."""
        return (height, width) if self.window is None else (min(height, self.window[0]), min(width, self.window[1]))

    def __call__(
        self, images: Tensor, seed: int, step: int, *, first: int = 0, alike: int = 1, number: int = 0
    ) -> Tensor:
        """(N, C, H, W) shifted, resized and rotated, borders mirrored: (N, C, *window), the window of this number.

        first: the number of the first image, by which it draws. `alike` images in a row are treated the same.
        """
        n, channels, height, width = images.shape
        h, w = self.seen(height, width)
        if not (self.jitter or self.scale or self.rotation) and (h, w) == (height, width):
            return images
        rows, columns = self.grid(height, width)
        row, column = divmod(number, columns)
        random = rng(seed, "maximize/transform", step)
        drawn = torch.rand((first + n) // alike, rows * columns, 4, generator=random) * 2 - 1
        drawn = drawn[first // alike :, number].repeat_interleave(alike, 0)
        angle = math.radians(self.rotation) * drawn[:, 0]
        size = 1 + self.scale * drawn[:, 1]
        cos, sin = angle.cos() / size, angle.sin() / size
        # The middle of the window, in pixels from that of the image
        x = (width - w + 2 * self.jitter * w) * ((2 * column + 1 + drawn[:, 2]) / (2 * columns) - 0.5)
        y = (height - h + 2 * self.jitter * h) * ((2 * row + 1 + drawn[:, 3]) / (2 * rows) - 0.5)
        # Coordinates run from -1 to 1 along both sides, of the window and of the image, whatever their lengths
        terms = [cos * w / width, -sin * h / width, 2 * x / width, sin * w / height, cos * h / height, 2 * y / height]
        theta = torch.stack(terms, 1).view(n, 2, 3).to(images.device)
        places = F.affine_grid(theta, [n, channels, h, w], align_corners=False)
        return sampled(images, places)


def sampled(images: Tensor, places: Tensor) -> Tensor:
    """(N, C, H, W) at places (N, h, w, 2), x and y from -1 to 1 between the borders, mirrored beyond: (N, C, h, w).

    Bilinear. The gradient of torch's own on a GPU adds up in another order in every run.
    """
    if images.is_cuda:
        return gathered(images, places)
    return F.grid_sample(images, places, padding_mode="reflection", align_corners=False)


def gathered(images: Tensor, places: Tensor) -> Tensor:
    """As `sampled`, as a weighted sum of the four pixels around each place, by indices."""
    numbers, corners = torch.arange(len(images), device=images.device)[:, None, None], []
    for axis, side in ((0, images.shape[3]), (1, images.shape[2])):
        along = (((places[..., axis] + 1) * side - 1) / 2 + 0.5).remainder(2 * side)
        along = (torch.minimum(along, 2 * side - along) - 0.5).clamp(0, side - 1)
        low = along.floor().clamp(max=max(side - 2, 0))
        corners.append(((low.long(), 1 - along + low), ((low.long() + 1).clamp(max=side - 1), along - low)))
    terms = [
        images[numbers, :, row, column] * (by_row * by_column)[..., None]
        for row, by_row in corners[1]
        for column, by_column in corners[0]
    ]
    return sum(terms).permute(0, 3, 1, 2)


def windows(images: Tensor, transforms: Transforms) -> list[Tensor]:
    """The windows (N, C, *window) of images (N, C, H, W), nothing drawn: evenly from border to border."""
    height, width = images.shape[2:]
    h, w = transforms.window or (height, width)
    rows, columns = transforms.grid(height, width)
    tops, lefts = _evenly(height - h, rows), _evenly(width - w, columns)
    return [images[:, :, top : top + h, left : left + w] for top in tops for left in lefts]


def _evenly(room: int, n: int) -> list[int]:
    """n whole numbers from 0 to `room`; the middle for one."""
    return [room // 2] if n == 1 else [room * i // (n - 1) for i in range(n)]


class Pixels:
    """The pixel parametrization: x, (N, C, H, W), is the unknown itself."""

    def __init__(self, start: Tensor):
        self.unknown = start.clone().requires_grad_()

    @classmethod
    def noise(
        cls, shape: Sequence[int], seed: int, *, first: int = 0, alike: int = 1, exponent: float = 1.0
    ) -> "Pixels":
        return cls(_noise(shape, seed, first, alike))

    @classmethod
    def of(cls, start: Tensor, *, exponent: float = 1.0) -> "Pixels":
        """The one whose value is `start` (N, C, H, W); `exponent` is of no account here."""
        return cls(start)

    def like(self, values: Tensor) -> "Pixels":
        return Pixels(values)

    def to(self, device: torch.device) -> "Pixels":
        self.unknown = self.unknown.detach().to(device).requires_grad_()
        return self

    def __call__(self) -> Tensor:
        return self.unknown


class Fourier:
    """The Fourier parametrization: x = F^-1(spectrum * s) / 4, s = 1 / max(f, 1 / longest side) (Olah et al. 2017).

    The spectrum, (N, C, H, W // 2 + 1, 2), is the unknown; scaled so, all frequencies of a photograph have about the
    same energy, and a step changes large shapes as readily as fine ones. exponent: s is of this power, its mean square
    that of the first; above 1 a step changes large shapes more. highest: nothing is above so many cycles along the
    longest side.
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
        cls, shape: Sequence[int], seed: int, *, first: int = 0, alike: int = 1, exponent: float = 1.0
    ) -> "Fourier":
        """Of `shape` (N, C, H, W), to start from; the images numbered from `first`, `alike` in a row the same."""
        n, channels, height, width = shape
        return cls(_noise((n, channels, height, width // 2 + 1, 2), seed, first, alike), (height, width), exponent)

    @classmethod
    def of(cls, start: Tensor, *, exponent: float = 1.0, highest: float = math.inf) -> "Fourier":
        """The one whose value is `start` (N, C, H, W), but for frequencies above `highest`."""
        fourier = cls(torch.view_as_real(torch.fft.rfft2(start, norm="ortho")), start.shape[-2:], exponent, highest)
        with torch.no_grad():
            fourier.unknown.copy_(torch.where(fourier.scale > 0, fourier.unknown / fourier.scale, 0.0))
        return fourier

    def like(self, values: Tensor) -> "Fourier":
        """One of the same kind whose value is `values` (N, C, H, W)."""
        return Fourier.of(values, exponent=self.exponent, highest=self.highest).to(values.device)

    def to(self, device: torch.device) -> "Fourier":
        self.unknown = self.unknown.detach().to(device).requires_grad_()
        self.scale = self.scale.to(device)
        return self

    def __call__(self) -> Tensor:
        return torch.fft.irfft2(torch.view_as_complex(self.unknown * self.scale), self.size, norm="ortho")


PARAMETRIZATIONS = {"fourier": Fourier, "pixel": Pixels}


def _noise(shape: Sequence[int], seed: int, first: int, alike: int) -> Tensor:
    """Normal numbers, those of each image a function of its number: it starts so whatever is beside it."""
    numbers = range(first // alike, (first + shape[0]) // alike)
    rows = [torch.randn(tuple(shape[1:]), generator=rng(seed, "maximize/noise", number)) for number in numbers]
    return SPREAD * torch.stack(rows).repeat_interleave(alike, 0)


class Images:
    """The images (N, C, H, W) in (0, 1) that an optimization changes: colors of a parametrization's values.

    first: the number of the first image. alike: so many in a row are frames of one sequence. They have one spectrum
    of low frequencies in common beside their own unknowns, and are transformed alike, so that what they show stays in
    one place (after the interpolations of Olah et al. 2017).
    """

    def __init__(self, own: Pixels | Fourier, colors: Colors, device: torch.device, *, first: int = 0, alike: int = 1):
        self.colors, self.first, self.alike = colors, first, alike
        self.parts = [own.to(device)]
        if alike > 1:
            n, channels, height, width = own().shape
            nothing = torch.zeros(n // alike, channels, height, width // 2 + 1, 2)
            highest = min(SHARED_CYCLES, max(height, width) / SHARED_PIXELS)
            self.parts.append(Fourier(nothing, (height, width), highest=highest).to(device))

    @torch.no_grad()
    def enlarge(self, size: Sequence[int], more: Tensor | None = None) -> None:
        """Bring the images to `size`, (height, width). more: (1, C, *size), coordinates of color to add."""
        values = [F.interpolate(part(), tuple(size), mode="bicubic", antialias=True) for part in self.parts]
        if more is not None:
            values[0] += more.to(values[0].device)
        self.parts = [part.like(value) for part, value in zip(self.parts, values, strict=True)]

    @torch.no_grad()
    def take(self, sources: Tensor) -> None:
        """Each becomes a copy of the image of this index (N,), in its own sequence where there are sequences."""
        unknown = self.parts[0].unknown
        unknown.copy_(unknown[sources.to(unknown.device)])

    def __call__(self) -> Tensor:
        x = self.parts[0]()
        for shared in self.parts[1:]:
            x = x + shared().repeat_interleave(self.alike, 0)
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
    """Change the images by Adam so that their objective, its mean over the windows, rises.

    objective(seen, images, step) -> (N,): of the images as transformed at this step and as they are.
    steps: their numbers; what is random is a function of seed and step. lr: of a step, its learning rate.
    on_step(step, mean objective, images), before the step's change. Raises MlcliError where a value is no number.
    """
    optimizer = torch.optim.Adam([part.unknown for part in images.parts])
    for step in steps:
        optimizer.param_groups[0]["lr"] = lr(step)
        drawn = images()
        rows, columns = transforms.grid(*drawn.shape[2:])
        leaf = drawn.detach().requires_grad_()
        mean = 0.0
        for number in range(rows * columns):  # one after the other, so that memory does not grow with the image
            seen = transforms(leaf, seed, step, first=images.first, alike=images.alike, number=number)
            with runtime.autocast():
                values = objective(seen, leaf, step) / (rows * columns)
            mean += values.mean().item()
            if not math.isfinite(mean):
                raise MlcliError(f"the objective is no number at step {step}; take a smaller --lr, or --precision fp32")
            (-values.sum()).backward()
        if on_step is not None:
            on_step(step, mean, drawn.detach())
        optimizer.zero_grad()
        drawn.backward(leaf.grad)
        optimizer.step()

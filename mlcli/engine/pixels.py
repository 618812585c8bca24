"""Pictures as the unknowns of an optimisation: parametrisations, robust transforms, and the ascent itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.engine.colours import Colours
from mlcli.engine.runtime import Runtime, generator
from mlcli.errors import MlcliError

NOISE, TRANSFORM = 1, 2  # purposes of random numbers
SPREAD = 0.01  # standard deviation of the noise that pictures start from
SHARED = 1 / 8  # cycles a pixel below which frames that are to be aligned have a spectrum in common


@dataclass(frozen=True)
class Transforms:
    """What a picture goes through before the network sees it, drawn anew for each picture and step.

    jitter: share of the side, scale: share, rotation: degrees; each drawn evenly between minus and plus this number.
    One bilinear interpolation does all three, which blurs less than one after the other.
    """

    jitter: float = 0
    scale: float = 0
    rotation: float = 0

    def __call__(self, pictures: Tensor, seed: int, step: int, *, first: int = 0, alike: int = 1) -> Tensor:
        """(N, C, H, W) moved, resized and turned, borders mirrored.

        first: the number of the first picture, by which it draws. `alike` pictures in a row are treated the same.
        """
        if not (self.jitter or self.scale or self.rotation):
            return pictures
        n, _, height, width = pictures.shape
        drawn = torch.rand((first + n) // alike, 4, generator=generator(seed, TRANSFORM, step)) * 2 - 1
        drawn = drawn[first // alike :].repeat_interleave(alike, 0)
        angle = math.radians(self.rotation) * drawn[:, 0]
        size = 1 + self.scale * drawn[:, 1]
        cos, sin = angle.cos() / size, angle.sin() / size
        x, y = 2 * self.jitter * drawn[:, 2], 2 * self.jitter * drawn[:, 3]
        # Coordinates run from -1 to 1 along both sides, whatever their lengths
        rows = [cos, -sin * height / width, x, sin * width / height, cos, y]
        theta = torch.stack(rows, 1).view(n, 2, 3).to(pictures.device)
        places = F.affine_grid(theta, list(pictures.shape), align_corners=False)
        return F.grid_sample(pictures, places, padding_mode="reflection", align_corners=False)


class Pixels:
    """The pixel parametrisation: x, (N, C, H, W), is the unknown itself."""

    def __init__(self, start: Tensor):
        self.unknown = start.clone().requires_grad_()

    @classmethod
    def noise(cls, shape: Sequence[int], seed: int, *, first: int = 0, alike: int = 1) -> "Pixels":
        return cls(_noise(shape, seed, first, alike))

    @classmethod
    def of(cls, start: Tensor) -> "Pixels":
        return cls(start)

    def to(self, device: torch.device) -> "Pixels":
        self.unknown = self.unknown.detach().to(device).requires_grad_()
        return self

    def __call__(self) -> Tensor:
        return self.unknown


class Fourier:
    """The Fourier parametrisation: x = F^-1(spectrum * s) / 4, s = 1 / max(f, 1 / longest side) (Olah et al. 2017).

    The spectrum, (N, C, H, W // 2 + 1, 2), is the unknown; scaled so, all frequencies of a photograph have about the
    same energy, and a step changes large shapes as readily as fine ones. highest: cycles a pixel above which there is
    nothing.
    """

    def __init__(self, spectrum: Tensor, size: Sequence[int], highest: float = math.inf):
        height, width = self.size = tuple(size)
        f = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
        self.scale = torch.where(f <= highest, 1 / f.clamp_min(1 / max(height, width)), 0.0)[..., None] / 4
        self.unknown = spectrum.clone().requires_grad_()

    @classmethod
    def noise(cls, shape: Sequence[int], seed: int, *, first: int = 0, alike: int = 1) -> "Fourier":
        """Of `shape` (N, C, H, W), to start from; the pictures numbered from `first`, `alike` in a row the same."""
        n, channels, height, width = shape
        return cls(_noise((n, channels, height, width // 2 + 1, 2), seed, first, alike), (height, width))

    @classmethod
    def of(cls, start: Tensor) -> "Fourier":
        """The one whose value is `start` (N, C, H, W)."""
        fourier = cls(torch.view_as_real(torch.fft.rfft2(start, norm="ortho")), start.shape[-2:])
        with torch.no_grad():
            fourier.unknown /= fourier.scale
        return fourier

    def to(self, device: torch.device) -> "Fourier":
        self.unknown = self.unknown.detach().to(device).requires_grad_()
        self.scale = self.scale.to(device)
        return self

    def __call__(self) -> Tensor:
        return torch.fft.irfft2(torch.view_as_complex(self.unknown * self.scale), self.size, norm="ortho")


PARAMETRISATIONS = {"fourier": Fourier, "pixel": Pixels}


def _noise(shape: Sequence[int], seed: int, first: int, alike: int) -> Tensor:
    """Normal numbers, those of each picture a function of its number: it starts so whatever is beside it."""
    numbers = range(first // alike, (first + shape[0]) // alike)
    rows = [torch.randn(tuple(shape[1:]), generator=generator(seed, NOISE, number)) for number in numbers]
    return SPREAD * torch.stack(rows).repeat_interleave(alike, 0)


class Pictures:
    """The pictures (N, C, H, W) in (0, 1) that an optimisation changes: colours of a parametrisation's values.

    first: the number of the first picture. alike: so many in a row are frames of one sequence. They have one spectrum
    of low frequencies in common beside their own unknowns, and are transformed alike, so that what they show stays in
    one place (after the interpolations of Olah et al. 2017).
    """

    def __init__(
        self, own: Pixels | Fourier, colours: Colours, device: torch.device, *, first: int = 0, alike: int = 1
    ):
        self.colours, self.first, self.alike = colours, first, alike
        self.parts = [own.to(device)]
        if alike > 1:
            n, channels, height, width = own().shape
            nothing = torch.zeros(n // alike, channels, height, width // 2 + 1, 2)
            self.parts.append(Fourier(nothing, (height, width), SHARED).to(device))

    @torch.no_grad()
    def take(self, sources: Tensor) -> None:
        """Each becomes a copy of the picture of this index (N,), in its own sequence where there are sequences."""
        unknown = self.parts[0].unknown
        unknown.copy_(unknown[sources.to(unknown.device)])

    def __call__(self) -> Tensor:
        x = self.parts[0]()
        for shared in self.parts[1:]:
            x = x + shared().repeat_interleave(self.alike, 0)
        return self.colours.pictures(x)


def ascend(
    pictures: Pictures,
    objective: Callable[[Tensor, Tensor, int], Tensor],
    *,
    steps: range,
    lr: float,
    transforms: Transforms,
    seed: int,
    runtime: Runtime,
    on_step: Callable[[int, float, Tensor], None] | None = None,
) -> None:
    """Change the pictures by Adam so that their objective rises.

    objective(seen, pictures, step) -> (N,): of the pictures as transformed at this step and as they are.
    steps: their numbers; what is random is a function of seed and step. on_step(step, mean objective, pictures), before
    the step's change. Raises MlcliError where a value is no number.
    """
    optimizer = torch.optim.Adam([part.unknown for part in pictures.parts], lr=lr)
    for step in steps:
        drawn = pictures()
        with runtime.autocast():
            values = objective(transforms(drawn, seed, step, first=pictures.first, alike=pictures.alike), drawn, step)
        mean = values.mean().item()
        if not math.isfinite(mean):
            raise MlcliError(f"the objective is no number at step {step}; take a smaller --lr, or --precision fp32")
        if on_step is not None:
            on_step(step, mean, drawn.detach())
        optimizer.zero_grad()
        (-values.sum()).backward()
        optimizer.step()

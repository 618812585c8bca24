"""Images from a trained generator: samples, rows of classes, and interpolations between two latent vectors."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL.Image import Image
from torch import Tensor

from mlcli.data.class_names import normalized
from mlcli.errors import UsageError, WeightsError, did_you_mean
from mlcli.imaging import image_io
from mlcli.io.files import file_hash
from mlcli.io.schema import Invalid, choice, integer, record
from mlcli.models import artifacts
from mlcli.models.artifacts import ArtifactKind
from mlcli.models.fitting import built
from mlcli.networks.dcgan import Generator
from mlcli.reporting import canvas
from mlcli.runtime.device import Runtime

SIDE = 64  # pixels to which an image in a grid is enlarged, about
INTERPOLATED = 8  # images from one latent vector to another
DESCRIPTION = record(  # the metadata of a file with a generator
    {
        "options": record(
            {
                "size": integer(4, 1024),
                "channels": choice(1, 3),
                "latent": integer(1, 1 << 16),
                "filters": integer(1, 4096),
                "classes": integer(0, 1_000_000),
            },
            closed=True,
        ),
        "classes": artifacts.CLASSES,
    }
)
SAMPLER = ArtifactKind("generator of a GAN", "gan", DESCRIPTION)


@dataclass
class Sampler:
    """A generator with its classes and file. classes: their names; empty for an unconditional generator."""

    network: Generator
    classes: tuple[str, ...]
    runtime: Runtime
    file: Path | None = None

    def __call__(self, latent: Tensor, labels: Tensor) -> Tensor:
        """Noise (N, latent) and labels (N,), which are ignored without classes -> (N, C, S, S) uint8."""
        return torch.cat(list(self.batches(latent, labels)))

    @torch.inference_mode()
    def batches(self, latent: Tensor, labels: Tensor, batch_size: int = 100) -> Iterator[Tensor]:
        """The same, batch by batch, on the CPU. Raises WeightsError where a pixel is not finite."""
        for z, y in zip(latent.split(batch_size), labels.split(batch_size), strict=True):
            with self.runtime.autocast():
                images = self.network(z.to(self.runtime.device), y.to(self.runtime.device)).float()
            if not images.isfinite().all():
                raise WeightsError("the generator's images hold values that are no numbers; its weights are damaged")
            yield image_io.to_bytes((images + 1) / 2).cpu()

    def grid(self, latent: Tensor, labels: Tensor, columns: int, *, wrap: bool = True) -> Image:
        """The images in rows; with classes, the name of the class below the first image of each row.

        wrap: a long row has several lines.
        """
        images = self(latent, labels).expand(-1, 3, -1, -1)
        names = [
            self.classes[label] if index % columns == 0 else ""
            for index, label in enumerate(labels.tolist() if self.classes else ())
        ]
        return canvas.grid(images, names or None, columns=columns, side=SIDE, gap=2, wrap=wrap)

    @property
    def hash(self) -> str:
        """SHA-256 of the file that it was read from; it must have been read from one."""
        assert self.file is not None
        return file_hash(self.file)

    def class_index(self, name: str) -> int:
        """Index of a class by its name. Raises UsageError with the nearest names."""
        known = [normalized(label) for label in self.classes]
        if normalized(name) in known:
            return known.index(normalized(name))
        if not self.classes:
            raise UsageError(f"--class {name}: this generator was trained without classes (--conditional)")
        raise UsageError(f"--class {name}: no class of this generator{did_you_mean(name, self.classes)}")

    def describe(self) -> dict[str, Any]:
        """The metadata that a file of weights needs to be opened again."""
        return {"kind": SAMPLER.name, "options": self.network.options, "classes": list(self.classes)}


def noise(count: int, latent: int, random: torch.Generator, truncation: float | None = None) -> Tensor:
    """Latent vectors z (count, latent) from N(0, 1).

    truncation: values whose magnitude is above it are drawn again (Brock et al. 2019, section 3.1). The smaller it is,
    the more typical and the less varied are the images.
    """
    z = torch.randn(count, latent, generator=random)
    while truncation is not None and (beyond := z.abs() > truncation).any():
        z[beyond] = torch.randn(int(beyond.sum()), generator=random)
    return z


def between(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Spherical interpolation: `count` points from each start (N, latent) to its end, (N, count, latent).

    The direction at t is (sin((1 - t) a) start + sin(t a) end) / sin(a) of the unit vectors, where a is the angle
    between them (White 2016); the length is interpolated linearly. A straight line would pass through points nearer to
    the origin than any noise that the generator was trained on.
    """
    t = torch.linspace(0, 1, count)[:, None]  # (count, 1)
    lengths = [point.norm(dim=1, keepdim=True)[:, None] for point in (start, end)]  # (N, 1, 1)
    u, v = (point[:, None] / length for point, length in zip((start, end), lengths, strict=True))  # (N, 1, latent)
    angle = (u * v).sum(-1, keepdim=True).clamp(-1, 1).acos()  # (N, 1, 1)
    apart = angle.sin() > 1e-4  # parallel vectors are interpolated linearly
    first = torch.where(apart, ((1 - t) * angle).sin() / angle.sin(), 1 - t)  # (N, count, 1)
    second = torch.where(apart, (t * angle).sin() / angle.sin(), t)
    return (first * u + second * v) * torch.lerp(lengths[0], lengths[1], t)


class GridInputs(NamedTuple):
    """The inputs of a generator for a grid of images, row by row."""

    latent: Tensor  # (N, latent)
    labels: Tensor  # (N,)
    columns: int


def draw(
    sampler: Sampler,
    count: int,
    random: torch.Generator,
    *,
    labels: Sequence[int] = (),
    columns: int | None = None,
    interpolate: bool = False,
    truncation: float | None = None,
) -> GridInputs:
    """Noise and classes for `count` images, rounded up to full rows and to equal numbers of each class.

    labels: the classes to draw; default all. interpolate: each row goes from one latent vector to another. columns:
    by default nearly square, or one row for each class, or 8 with `interpolate`.
    """
    groups = torch.tensor(labels or range(len(sampler.classes)) or [0])
    if interpolate:
        columns = columns or INTERPOLATED
    each = math.ceil(count / len(groups))
    if columns and (interpolate or sampler.classes):
        each = math.ceil(each / columns) * columns
    columns = columns or (each if sampler.classes else math.ceil(math.sqrt(each)))
    of_class = groups.repeat_interleave(each)
    if not interpolate:
        return GridInputs(noise(len(of_class), sampler.network.latent, random, truncation), of_class, columns)
    start, end = noise(2 * len(of_class) // columns, sampler.network.latent, random, truncation).chunk(2)
    return GridInputs(between(start, end, columns).flatten(0, 1), of_class, columns)


def load(run: str | Path, runtime: Runtime) -> Sampler:
    """The sampler of a run of `mlcli gan`, or of its model.safetensors. Raises WeightsError for any other file."""
    artifact = artifacts.read_run(run, SAMPLER)
    classes, options = tuple(artifact.description["classes"]), artifact.description["options"]
    with artifact.description_checked():
        if len(classes) != options["classes"]:
            raise Invalid(f"are {len(classes)}, of a generator of {options['classes']}", ("classes",))
        network = built(lambda: Generator(**options), artifact.tensors, artifact.file)
    network.to(runtime.device).to(memory_format=runtime.memory_format)
    network.eval().requires_grad_(False)
    return Sampler(network, classes, runtime, artifact.file)

"""Images of a domain in memory, for methods that adapt a model from one domain to another."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcli.data.folders import HELD_OUT, TRAINING
from mlcli.data.image_dataset import ImageDataset
from mlcli.data.pairing import match, shortened
from mlcli.data.pairs import CachedDataset, ImageSpec, unpaired
from mlcli.errors import DataError, ImageError
from mlcli.imaging import image_io
from mlcli.runtime.random_streams import rng


@dataclass(frozen=True)
class Domain:
    """Images of one domain.

    images: (N, C, S, S) uint8.  paths: their files.  labels: int64, the class of each image (N,) or of each pixel
    (N, S, S); None without labels.
    """

    images: Tensor
    paths: Sequence[Path]
    labels: Tensor | None = None

    @classmethod
    def classified(cls, root: str | Path, images: ImageDataset, *, labeled: bool) -> "Domain":
        """The images of a folder, with their classes or without. Raises DataError where they do not fit into memory."""
        if images.pixels is None:
            raise DataError(
                f"{root}: too many images of {images.size} pixels to hold in memory; take fewer, or a smaller --size"
            )
        return cls(images.pixels, images.paths, images.labels if labeled else None)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def size(self) -> int:
        return self.images.shape[2]

    def names(self, indices: Tensor) -> list[str]:
        """The files of the images at the indices (n,)."""
        return [str(self.paths[index]) for index in indices.tolist()]

    def part(self, indices: Tensor) -> "Domain":
        """The images at the indices (n,), in their order."""
        paths = [self.paths[index] for index in indices.tolist()]
        labels = None if self.labels is None else self.labels[indices]
        return Domain(self.images[indices], paths, labels)

    def with_images(self, images: Tensor) -> "Domain":
        """Other images with the same labels, such as translations of these."""
        return replace(self, images=images)

    def in_order(self) -> "Domain":
        """Sorted by a hash of the pixels instead of the paths, which may reveal labels (class folders)."""
        keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in self.images]
        return self.part(torch.tensor(sorted(range(len(keys)), key=keys.__getitem__)))

    def subset(self, count: int | None, seed: int) -> "Domain":
        """`count` images, drawn by the seed regardless of the labels; all where there are no more or for None."""
        if count is None or count >= len(self):
            return self
        return self.part(torch.randperm(len(self), generator=rng(seed, "domains/subset"))[:count].sort().values)

    def split(self, fraction: float, seed: int) -> tuple["Domain", "Domain"]:
        """(rest, held out): the fraction of the images that is held out is drawn by the seed.

        Raises DataError where no image, or every one, would be held out.
        """
        count = round(fraction * len(self))
        if not 0 < count < len(self):
            raise DataError(f"{fraction:g} of {len(self)} images is {count}; hold out another fraction")
        order = torch.randperm(len(self), generator=rng(seed, "domains/held-out"))
        return self.part(order[count:].sort().values), self.part(order[:count].sort().values)

    def digest(self) -> str:
        """SHA-256 over the pixels in their order and the labels, if any, regardless of the file names."""
        parts = [self.images] if self.labels is None else [self.images, self.labels]
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def mapped(self, change: Callable[[Tensor], Tensor], batch_size: int = 250) -> "Domain":
        """Every image changed by a function from uint8 (n, C, S, S) to the same shape and type."""
        return self.with_images(torch.cat([change(part) for part in self.images.split(batch_size)]))

    @staticmethod
    def joined(parts: Sequence["Domain"]) -> "Domain":
        """Labeled domains, concatenated."""
        images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return Domain(images, [path for part in parts for path in part.paths], labels)


def read_masked(root: str | Path, size: int, **loading: Any) -> tuple[CachedDataset, list[Exception]]:
    """(images (3, S, S) of root/images with masks (1, S, S) of root/masks of equal names; what was left out and why).

    loading: options of `CachedDataset`. Raises DataError where there are no such folders, or no pair in them.
    """
    folders = [Path(root) / "images", Path(root) / "masks"]
    for folder in folders:
        if not os.path.isdir(folder):
            inside = [part for part in (*TRAINING, *HELD_OUT) if os.path.isdir(Path(root) / part / "images")]
            hint = f", as in {Path(root) / inside[0]}" if inside else ""
            raise DataError(f"{root}: no {folder.name}/ in it; segmentation data are images/ and masks/{hint}")
    pairing = match(Path(root), "images/ and masks/", *folders)
    specs = ImageSpec(3), ImageSpec(1, 256)

    def read(pair: tuple[Path, Path]) -> tuple[Tensor, Tensor]:
        whole = [spec.read(path) for spec, path in zip(specs, pair, strict=True)]
        sizes = [f"{each.shape[2]} x {each.shape[1]}" for each in whole]
        if sizes[0] != sizes[1]:
            raise ImageError(f"{pair[1]}: is {sizes[1]} pixels, its image {sizes[0]}; left out")
        image, mask = (spec.resize(each, (size, size)) for spec, each in zip(specs, whole, strict=True))
        return image, mask

    dataset = CachedDataset(pairing.paths, read, **loading)
    return dataset, [*pairing.problems, *dataset.problems]


def read_unmasked(paths: Sequence[Path], size: int, **loading: Any) -> tuple[CachedDataset, list[ImageError]]:
    """(images (3, S, S) without masks; an error for each that cannot be read). loading: options of `CachedDataset`."""

    def read(item: tuple[Path]) -> tuple[Tensor]:
        return (ImageSpec(3).resize(ImageSpec(3).read(item[0]), (size, size)),)

    dataset = CachedDataset([(path,) for path in paths], read, **loading)
    return dataset, dataset.problems


def segmented(
    root: str | Path, dataset: CachedDataset, classes: Sequence[str] | None
) -> tuple[Domain, Sequence[str] | None]:
    """(the domain of what was read, its classes: `classes`, or if None as many as the masks hold).

    Raises DataError where nothing was read, or where the masks hold a class that is not among `classes`.
    """
    if not dataset.items:
        raise DataError(f"{root}: no readable image in it")
    read = (dataset.get([index])[0] for index in range(len(dataset)))
    originals, *masks = zip(*read, strict=True)
    images = torch.stack([image_io.to_bytes(image) for image in originals])
    paths = [item[0] for item in dataset.items]
    if not masks:
        return Domain(images, paths), classes
    labels = torch.cat(masks[0]).long()
    if classes is None:
        numbers = labels.unique().tolist()
        if 2 * len(numbers) <= numbers[-1]:  # such as 0 and 255
            raise DataError(
                f"{root}: its masks hold {len(numbers)} numbers, {shortened(numbers)}; number the classes 0, 1, 2 and "
                "so on, 0 for the background"
            )
        classes = ("background", *(f"class {number}" for number in range(1, int(labels.max()) + 1)))
    if labels.max() >= len(classes):
        raise DataError(f"{root}: its masks hold class {int(labels.max())}, the source knows 0 to {len(classes) - 1}")
    return Domain(images, paths, labels), classes


class Unpaired:
    """Two domains for training by cycle consistency, like `pairs.UnpairedSets` without cropping: A source, B target."""

    def __init__(self, source: Domain, target: Domain) -> None:
        self.sides = (source, target)
        self.specs = ImageSpec(source.channels), ImageSpec(target.channels)

    def __len__(self) -> int:
        return max(map(len, self.sides))

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """(1, n), uniform in [0, 1), for `batch`: which image of B is shown."""
        return torch.rand(1, n, generator=random, dtype=torch.float64)

    def batch(self, indices: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(A, B) at the indices (N,), each (N, C, S, S) uint8. drawn: of `draw`; None: image i of each domain."""
        chosen = unpaired(self.sides, indices, drawn)
        a, b = (side.images[each] for side, each in zip(self.sides, chosen, strict=True))
        return a, b

    def names(self, indices: Tensor, drawn: Tensor | None = None) -> list[str]:
        """The files of a batch, those of A and those of B."""
        chosen = unpaired(self.sides, indices, drawn)
        return [name for side, each in zip(self.sides, chosen, strict=True) for name in side.names(each)]

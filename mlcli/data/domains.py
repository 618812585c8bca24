"""Images of a domain in memory, for methods that adapt a model from one domain to another."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.data import class_images
from mlcli.data.folders import HELD_OUT, TRAINING
from mlcli.data.image_dataset import ImageDataset
from mlcli.data.pairing import Pairing, match, shortened
from mlcli.data.pairs import CachedDataset, ImageSpec, unpaired
from mlcli.errors import DataError, ImageError
from mlcli.imaging import image_io
from mlcli.io import input_files
from mlcli.runtime.random_streams import rng

MASK = ImageSpec(1, 256)  # the number of a class at each pixel


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
        """The images of a folder in memory, with their classes or without."""
        assert images.pixels is not None, f"{root}: see require_memory"
        return cls(images.pixels, images.paths, images.labels if labeled else None)

    @classmethod
    def empty(cls, size: int, channels: int) -> "Domain":
        """A labeled domain without images."""
        return cls(torch.empty(0, channels, size, size, dtype=torch.uint8), [], torch.empty(0, dtype=torch.int64))

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
        return self.part(torch.tensor(sorted(range(len(keys)), key=keys.__getitem__), dtype=torch.int64))

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
            raise DataError(f"{fraction:g} of {counted(len(self), 'image')} is {count}; hold out another fraction")
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


def require_memory(root: str | Path, count: int, size: int, channels: int, allowed: int) -> None:
    """Raise DataError where so many images (channels, size, size) uint8 are more than the `allowed` bytes."""
    needed = count * channels * size**2
    if needed > allowed:
        raise DataError(
            f"{root}: {counted(count, 'image')} of {size} x {size} pixels take {needed / 1e9:.3g} GB, more than "
            f"--cache-memory {allowed / 1e9:g}, and a domain must be in memory; take fewer, a smaller --size, or more "
            "memory"
        )


def masks_beside(root: str | Path) -> Pairing:
    """The images of root/images paired with the masks of root/masks of equal names.

    Raises DataError where there are no such folders, or no pair in them.
    """
    class_images.require_folder(Path(root), single=True)
    folders = [Path(root) / "images", Path(root) / "masks"]
    for folder in folders:
        if not input_files.is_folder(folder):
            inside = [part for part in (*TRAINING, *HELD_OUT) if input_files.is_folder(Path(root) / part / "images")]
            hint = f", as in {Path(root) / inside[0]}" if inside else ""
            raise DataError(f"{root}: no {folder.name}/ in it; segmentation data are images/ and masks/{hint}")
    return match(Path(root), "images/ and masks/", *folders)


def read_masked(pairing: Pairing, size: int, **loading: Any) -> CachedDataset:
    """Images (3, S, S) with their masks (1, S, S). loading: options of `CachedDataset`."""
    specs = ImageSpec(3), MASK

    def read(pair: tuple[Path, Path]) -> tuple[Tensor, Tensor]:
        whole, mask = (spec.read(path) for spec, path in zip(specs, pair, strict=True))
        _require_size(pair[1], mask, whole.shape[1:])
        return specs[0].resize(whole, (size, size)), MASK.resize(mask, (size, size))

    return CachedDataset(pairing.paths, read, **loading)


def read_unmasked(paths: Sequence[Path], size: int, **loading: Any) -> CachedDataset:
    """Images (3, S, S), each with the height and width of its file (2,). loading: options of `CachedDataset`."""
    spec = ImageSpec(3)

    def read(path: Path) -> tuple[Tensor, Tensor]:
        whole = spec.read(path)
        return spec.resize(whole, (size, size)), torch.tensor(whole.shape[1:])

    return CachedDataset(paths, read, **loading)


def _require_size(path: Path, mask: Tensor, size: Sequence[int]) -> None:
    """Raise ImageError where a mask (1, H, W) has not the height and width of its image."""
    if list(mask.shape[1:]) != list(size):
        raise ImageError(
            f"{path}: is {mask.shape[2]} x {mask.shape[1]} pixels, its image {size[1]} x {size[0]}; left out"
        )


def segmented(root: str | Path, dataset: CachedDataset, classes: Sequence[str] | None) -> tuple[Domain, Sequence[str]]:
    """(the domain of what `read_masked` has read, its classes: `classes`, or if None as many as the masks hold).

    Raises DataError where nothing was read, or where the masks hold a class that is not among `classes`.
    """
    images, masks = _read(root, dataset)
    labels = torch.cat(masks).long()
    if classes is None:
        numbers = labels.unique().tolist()
        if 2 * len(numbers) <= numbers[-1]:  # such as 0 and 255
            raise DataError(
                f"{root}: its masks hold {counted(len(numbers), 'number')}, {shortened(numbers)}; number the classes "
                "0, 1, 2 and so on, 0 for the background"
            )
        classes = ("background", *(f"class {number}" for number in range(1, int(labels.max()) + 1)))
    _require_classes(root, labels, classes)
    return Domain(images, [image for image, _ in dataset.items], labels), classes


def unsegmented(root: str | Path, dataset: CachedDataset) -> tuple[Domain, dict[Path, Sequence[int]]]:
    """(the domain of what `read_unmasked` has read, the height and width of each file). Raises DataError for none."""
    images, sizes = _read(root, dataset)
    return Domain(images, dataset.items), dict(zip(dataset.items, (size.tolist() for size in sizes), strict=True))


def with_masks(
    domain: Domain, pairing: Pairing, sizes: Mapping[Path, Sequence[int]], classes: Sequence[str], **loading: Any
) -> tuple[Domain, list[ImageError]]:
    """(those images of a domain that have a mask, with their masks as labels; an error for each mask left out).

    pairing: the images with their masks.  sizes: the height and width of the file of each image of the domain.
    loading: options of `CachedDataset`. Raises DataError where there is no mask, or one holds an unknown class.
    """
    indices = {path: index for index, path in enumerate(domain.paths)}

    def read(pair: tuple[Path, Path]) -> tuple[Tensor]:
        mask = MASK.read(pair[1])
        _require_size(pair[1], mask, sizes[pair[0]])
        return (MASK.resize(mask, (domain.size, domain.size)),)

    dataset = CachedDataset([pair for pair in pairing.paths if pair[0] in indices], read, **loading)
    if not dataset.items:
        raise DataError(f"{pairing.root}: no readable image in it")
    labels = torch.cat([dataset.get([index])[0][0] for index in range(len(dataset))]).long()
    _require_classes(pairing.root, labels, classes)
    chosen = domain.part(torch.tensor([indices[image] for image, _ in dataset.items]))
    return replace(chosen, labels=labels), dataset.problems


def _read(root: str | Path, dataset: CachedDataset) -> tuple[Tensor, list[Tensor]]:
    """(images (N, C, S, S) uint8, what was read with each)."""
    if not dataset.items:
        raise DataError(f"{root}: no readable image in it")
    images, others = zip(*(dataset.get([index])[0] for index in range(len(dataset))), strict=True)
    return torch.stack([image_io.to_bytes(image) for image in images]), list(others)


def _require_classes(root: str | Path, labels: Tensor, classes: Sequence[str]) -> None:
    """Raise DataError where masks hold a class that is not among these."""
    if labels.max() >= len(classes):
        raise DataError(f"{root}: its masks hold class {int(labels.max())}, the source knows 0 to {len(classes) - 1}")


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

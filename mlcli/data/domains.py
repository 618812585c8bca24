"""Sets of images of two domains in memory, for methods that carry a model from one to the other."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mlcli.data.folders import HELD_OUT, TRAINING
from mlcli.data.image_dataset import ImageDataset
from mlcli.data.pairing import match, shortened
from mlcli.data.pairs import CachedDataset, ImageSpec, unpaired
from mlcli.errors import DataError, ImageError
from mlcli.io import image_io
from mlcli.runtime.random_streams import rng


@dataclass(frozen=True)
class Domain:
    """Images of one domain.

    images: (N, C, S, S) uint8.  paths: their files.  labels: classes (N,), or of each pixel (N, S, S), int64; None
    where there are none.
    """

    images: Tensor
    paths: Sequence[Path]
    labels: Tensor | None = None

    @classmethod
    def classified(cls, root: str | Path, images: ImageDataset, *, labeled: bool) -> "Domain":
        """The images of a folder, with their classes or without. Raises DataError where memory does not hold them."""
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
        return [str(self.paths[index]) for index in indices.tolist()]

    def part(self, indices: Tensor) -> "Domain":
        paths = [self.paths[index] for index in indices.tolist()]
        labels = None if self.labels is None else self.labels[indices]
        return Domain(self.images[indices], paths, labels)

    def with_images(self, images: Tensor) -> "Domain":
        """The same labels on other images, such as translations of these."""
        return replace(self, images=images)

    def in_order(self) -> "Domain":
        """Sorted by what the images show, not by their names, which may give labels away (class folders)."""
        keys = [hashlib.sha256(image.numpy().tobytes()).digest() for image in self.images]
        return self.part(torch.tensor(sorted(range(len(keys)), key=keys.__getitem__)))

    def subset(self, count: int | None, seed: int) -> "Domain":
        """So many images drawn by the seed, without a look at the labels; all where there are no more."""
        if count is None or count >= len(self):
            return self
        return self.part(torch.randperm(len(self), generator=rng(seed, "domains/subset"))[:count].sort().values)

    def split(self, share: float, seed: int) -> tuple["Domain", "Domain"]:
        """(rest, held out): so large a share of the images, drawn by the seed. Raises DataError for 0 or all."""
        count = round(share * len(self))
        if not 0 < count < len(self):
            raise DataError(f"{share:g} of {len(self)} images is {count}; hold out another share")
        order = torch.randperm(len(self), generator=rng(seed, "domains/held-out"))
        return self.part(order[count:].sort().values), self.part(order[:count].sort().values)

    def digest(self) -> str:
        """SHA-256 over the pixels in their order and the labels that are known, whatever the files are called."""
        parts = [self.images] if self.labels is None else [self.images, self.labels]
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def mapped(self, change: Callable[[Tensor], Tensor], batch_size: int = 250) -> "Domain":
        """Every image changed: uint8 (n, C, S, S) -> the same."""
        return self.with_images(torch.cat([change(part) for part in self.images.split(batch_size)]))

    @staticmethod
    def joined(parts: Sequence["Domain"]) -> "Domain":
        """Labeled domains one after another."""
        images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
        return Domain(images, [path for part in parts for path in part.paths], labels)


def read_masked(root: str | Path, size: int, **loading) -> tuple[CachedDataset, list[ImageError]]:
    """(images (3, S, S) of root/images with masks (1, S, S) of root/masks, by their files; what is left out).

    loading: workers, progress, as for `CachedDataset`. Raises DataError where there are no such folders, or no pair in
    them.
    """
    places = [Path(root) / "images", Path(root) / "masks"]
    for place in places:
        if not os.path.isdir(place):
            inside = [part for part in (*TRAINING, *HELD_OUT) if os.path.isdir(Path(root) / part / "images")]
            hint = f", as in {Path(root) / inside[0]}" if inside else ""
            raise DataError(f"{root}: no {place.name}/ in it; segmentation data are images/ and masks/{hint}")
    pairing = match(Path(root), "images/ and masks/", *places)
    kinds = ImageSpec(3), ImageSpec(1, 256)

    def read(pair: tuple[Path, Path]) -> tuple[Tensor, Tensor]:
        whole = [kind.read(path) for kind, path in zip(kinds, pair, strict=True)]
        sizes = [f"{each.shape[2]} x {each.shape[1]}" for each in whole]
        if sizes[0] != sizes[1]:
            raise ImageError(f"{pair[1]}: is {sizes[1]} pixels, its image {sizes[0]}; left out")
        return tuple(kind.resize(image, (size, size)) for kind, image in zip(kinds, whole, strict=True))

    store = CachedDataset(pairing.paths, read, **loading)
    return store, [*pairing.problems, *store.problems]


def read_unmasked(paths: Sequence[Path], size: int, **loading) -> tuple[CachedDataset, list[ImageError]]:
    """The same of images alone."""

    def read(item: tuple[Path]) -> tuple[Tensor]:
        return (ImageSpec(3).resize(ImageSpec(3).read(item[0]), (size, size)),)

    store = CachedDataset([(path,) for path in paths], read, **loading)
    return store, store.problems


def segmented(
    root: str | Path, store: CachedDataset, classes: Sequence[str] | None
) -> tuple[Domain, Sequence[str] | None]:
    """(the domain of what was read, its classes): those given, or else as many as the masks hold.

    Raises DataError where nothing was read, or masks hold another class.
    """
    if not store.items:
        raise DataError(f"{root}: no readable image in it")
    read = (store.get([index])[0] for index in range(len(store)))
    images, *masks = zip(*read, strict=True)
    images = torch.stack([image_io.to_bytes(image) for image in images])
    paths = [item[0] for item in store.items]
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
    """Two domains for training by cycle consistency, A the source, B the target: as `pairs.UnpairedSets`, uncut."""

    def __init__(self, source: Domain, target: Domain):
        self.sides = (source, target)
        self.kinds = tuple(ImageSpec(side.channels) for side in self.sides)

    def __len__(self) -> int:
        return max(map(len, self.sides))

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """(1, n) for `batch`: the image of B."""
        return torch.rand(1, n, generator=random, dtype=torch.float64)

    def batch(self, indices: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(A, B), each (N, C, S, S) uint8; without `drawn` image i of each."""
        places = unpaired(self.sides, indices, drawn)
        return tuple(side.images[place] for side, place in zip(self.sides, places, strict=True))

    def names(self, indices: Tensor, drawn: Tensor | None = None) -> list[str]:
        places = unpaired(self.sides, indices, drawn)
        return [name for side, place in zip(self.sides, places, strict=True) for name in side.names(place)]

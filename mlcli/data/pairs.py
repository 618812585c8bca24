"""Data sets for translation between two sets of images, A and B: aligned pairs, or two unpaired sets.

    pairing = find_pairs("facades", "train")           which files belong together
    data = PairSet.load(pairing, (ImageSpec(labels=12), ImageSpec(3)), ResizeCrop())
    drawn = data.draw(n, rng(seed, purpose, step))      (3, n), for the whole batch of all processes
    a, b = data.batch(indices, processes.shard(drawn, 1))     as stored, on the CPU
    x = data.specs[0].normalized_input(a.to(device))          what a network takes

`UnpairedSets` is used in the same way. The images of a step are a function of its indices and of the numbers drawn, so
a resumed run sees what an unbroken one does.
"""

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.counting import counted
from mlcli.data.pairing import Pairing, shortened
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.imaging import image_io
from mlcli.imaging.decoding import decode
from mlcli.io.packed_tensors import PackedTensors

MODES = ("resize-and-crop", "crop", "scale-width", "scale-width-and-crop", "none")
SHOWN = 8  # values of a map in a message
BUDGET = 4 << 30  # bytes of pixels that are held in memory

# ----------------------------------------------------------------------------------- from a file to a batch


@dataclass(frozen=True)
class ImageSpec:
    """The type of the images of a set: gray (channels 1), color (channels 3), or label maps of `labels` classes.

    A label map holds the index of a class at each pixel, from 0 on, as a level of gray or an index of a palette.
    """

    channels: int = 3
    labels: int = 0

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UsageError(f"{self.channels} channels: images have 1 (gray) or 3 (color)")
        if not 0 <= self.labels <= 256:
            raise UsageError(f"{counted(self.labels, 'label')}: maps have 1 to 256 classes")

    @property
    def width(self) -> int:
        """The number of channels of `normalized_input`."""
        return self.labels or self.channels

    def read(self, path: str | Path) -> Tensor:
        """(channels, H, W) uint8, or float in [0, 1] from a file of more bits; (1, H, W) uint8 of a label map.

        Raises ImageError.
        """
        if self.labels:
            return self._checked(image_io.read_labels(path), path)
        image = image_io.read(path)
        return image_io.to_gray(image) if self.channels == 1 else image

    def _checked(self, numbers: Tensor, path: str | Path) -> Tensor:
        if int(numbers.max()) < self.labels:  # as a byte, 256 would be 0
            return numbers
        found = numbers.unique().tolist()
        shown = ", ".join(map(str, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        count = counted(self.labels, "class")
        limits = f"{path}: holds the values {shown}, and a map of {count} holds 0 to {self.labels - 1}"
        if len(found) <= self.labels:  # such as 0 and 255
            numbered = ", ".join(
                f"{value} to {number}" for number, value in enumerate(found[:SHOWN]) if value != number
            )
            raise ImageError(f"{limits}; number the classes from 0 on, here {numbered}, and save the map as PNG")
        raise ImageError(f"{limits}; give as many classes as there are (--labels-a, --labels-b)")

    def resize(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """(C, H, W) resized to (height, width): bicubic with antialiasing, or the nearest pixel of a label map."""
        if image.shape[1:] == size:
            return image
        if self.labels:
            return F.interpolate(image[None], size, mode="nearest-exact")[0]
        resized = F.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
        return resized.clamp(0, 1) if image.is_floating_point() else resized.clamp(0, 255).round().to(image.dtype)

    def normalized_input(self, batch: Tensor) -> Tensor:
        """The input of a network, float32 (N, width, H, W): images in [-1, 1], label maps one-hot. On any device."""
        if self.labels:
            return F.one_hot(batch[:, 0].long(), self.labels).movedim(3, 1).float()
        return image_io.to_unit(batch) * 2 - 1

    def to_images(self, x: Tensor) -> Tensor:
        """Inputs or outputs of a network (N, width, H, W) as images (N, 1 or 3, H, W) in [0, 1].

        A label map shows the most probable class of each pixel as a level of gray.
        """
        if self.labels:
            return x.argmax(1, keepdim=True).float() / max(1, self.labels - 1)
        return (x.float() * 0.5 + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class ResizeCrop:
    """How images of any size are resized and cropped for training; sizes are (height, width) in pixels.

    resize-and-crop: resized to `load`, whatever the ratio of the image, then a random window of `size` is cropped
    (pix2pix: 286 and 256). crop: a window is cropped from the image as it is. scale-width: resized to the width of
    `load`, keeping the ratio; scale-width-and-crop: then a window is cropped. none: left as it is. Sides that are not
    cropped are rounded to a `multiple`. An image smaller than the window is enlarged to hold it. flip: horizontally,
    at random.
    """

    size: tuple[int, int] = (256, 256)
    load: tuple[int, int] = (286, 286)
    mode: str = "resize-and-crop"
    flip: bool = True
    multiple: int = 4

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"{self.mode}: unknown mode of resizing; take {', '.join(MODES)}")
        if self.mode == "resize-and-crop" and (self.load[0] < self.size[0] or self.load[1] < self.size[1]):
            load, size = (f"{width} x {height}" for height, width in (self.load, self.size))
            raise UsageError(f"images of {load} hold no window of {size}; load them larger")

    @property
    def crops(self) -> bool:
        """Whether a window is cropped."""
        return self.mode.endswith("crop")

    def still(self) -> "ResizeCrop":
        """The same without randomness, for validation: the whole image where possible, and no flips."""
        return replace(self, load=self.size if self.mode == "resize-and-crop" else self.load, flip=False)

    def loaded(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image is resized to before a window is cropped."""
        if self.mode == "resize-and-crop":
            return self.load
        if self.mode.startswith("scale-width"):
            height, width = max(1, round(height * self.load[1] / width)), self.load[1]
        if self.crops:
            factor = max(1, self.size[0] / height, self.size[1] / width)
            return round(height * factor), round(width * factor)
        rounded = [max(1, round(side / self.multiple)) * self.multiple for side in (height, width)]
        return rounded[0], rounded[1]

    def cut(self, images: Sequence[Tensor], drawn: Tensor | None) -> Tensor:
        """A batch (N, C, h, w) of images (C, H, W) as loaded.

        drawn: (3, N) uniform in [0, 1): the vertical and the horizontal position of the window, and the flip; None: the
        center, not flipped. Raises DataError where images that are not cropped differ in size.
        """
        if drawn is None:
            drawn = torch.full((3, len(images)), 0.5)
        if self.crops:
            (height, width), windows = self.size, []
            for image, (down, right) in zip(images, drawn[:2].T.tolist(), strict=True):
                top = math.floor(down * (image.shape[1] - height + 1))
                left = math.floor(right * (image.shape[2] - width + 1))
                windows.append(image[:, top : top + height, left : left + width])
            images = windows
        elif len({image.shape for image in images}) > 1:
            raise DataError(f"images of several sizes in one batch; with {self.mode}, take batches of one")
        batch = image_io.stack(images)
        return torch.where((drawn[2] < 0.5)[:, None, None, None], batch.flip(3), batch) if self.flip else batch


# ------------------------------------------------------------------------------------------------ loaded data


class CachedDataset:
    """The tensors that `read` gives for items: in memory if all fit, else in a file on disk, else read on demand.

    items: those that can be read. problems: an ImageError for each of the others. held: the tensors of each item, or
    None.
    """

    def __init__(
        self,
        items: Sequence[Any],
        read: Callable[[Any], tuple[Tensor, ...]],
        *,
        workers: int | None = None,
        budget_bytes: int = BUDGET,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.read, self.workers = read, workers
        self.items: list[Any] = []
        self.problems: list[ImageError] = []
        held: list[tuple[Tensor, ...]] | PackedTensors | None = []
        used = 0
        for number, images in decode(items, read=read, workers=workers):
            if isinstance(images, ImageError):
                self.problems.append(images)
            else:
                self.items.append(items[number])
                used += sum(image.nbytes for image in images)
                if isinstance(held, list) and used > budget_bytes:
                    held = _packed(held)
                if isinstance(held, list):
                    held.append(images)
                elif held is not None:
                    held = held.append(images)
            if progress is not None:
                progress(number + 1, len(items))
        self.held = held.mapped() if isinstance(held, PackedTensors) else held

    def __len__(self) -> int:
        return len(self.items)

    def get(self, indices: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """The tensors of the items at the indices. Raises DataError, naming the file, if one can no longer be read."""
        if self.held is not None:
            return [self.held[index] for index in indices]
        result: list[tuple[Tensor, ...]] = []
        for _, images in decode([self.items[index] for index in indices], read=self.read, workers=self.workers):
            if isinstance(images, ImageError):
                raise DataError(f"{images} (it was whole when this began)")
            result.append(images)
        return result


def _packed(items: Sequence[tuple[Tensor, ...]]) -> PackedTensors | None:
    """The tensors of items in a file on disk, to which more are to be appended; None where there is no room."""
    packed = PackedTensors.opened()
    for tensors in items:
        if packed is not None:
            packed = packed.append(tensors)
    return packed


class PairSet:
    """Aligned pairs for training. problems: an error for each file that was left out."""

    def __init__(
        self, pairing: Pairing, specs: tuple[ImageSpec, ImageSpec], resize_crop: ResizeCrop, dataset: CachedDataset
    ) -> None:
        self.pairing, self.specs, self.resize_crop, self.dataset = pairing, specs, resize_crop, dataset
        self.datasets = (dataset,)
        self.problems = [*pairing.problems, *dataset.problems]

    @classmethod
    def load(
        cls, pairing: Pairing, specs: tuple[ImageSpec, ImageSpec], resize_crop: ResizeCrop, **options: Any
    ) -> "PairSet":
        """Read every pair once. specs: of A and of B. options: workers, budget_bytes, progress, as for `CachedDataset`.

        Raises DataError where no pair can be read.
        """

        def read(pair: tuple[Path, Path]) -> tuple[Tensor, Tensor]:
            if pairing.halves:
                whole = _halves(pair[0], *specs)
            else:
                whole = [spec.read(path) for spec, path in zip(specs, pair, strict=True)]
            if resize_crop.mode != "resize-and-crop" and whole[0].shape[1:] != whole[1].shape[1:]:
                sizes = (f"{path} of {x.shape[2]} x {x.shape[1]}" for path, x in zip(pair, whole, strict=True))
                raise ImageError(f"{' and '.join(sizes)}: a pair has one size; take resize-and-crop")
            size = resize_crop.loaded(*whole[0].shape[1:])
            a, b = (spec.resize(image, size) for spec, image in zip(specs, whole, strict=True))
            return a, b

        dataset = CachedDataset(pairing.paths, read, **options)
        if not dataset.items:
            raise DataError(f"{pairing.root}: no pair can be read. " + shortened(dataset.problems))
        return cls(pairing, specs, resize_crop, dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """(3, n) for `batch`: the position of the window and the flip, the same for A and B."""
        return torch.rand(3, n, generator=random)

    def batch(self, indices: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(A, B) at the indices (N,), each (N, C, h, w): uint8, or float in [0, 1] from files of more bits.

        drawn: of `draw`; None: the center, not flipped.
        """
        a, b = zip(*self.dataset.get(indices.tolist()), strict=True)
        return self.resize_crop.cut(a, drawn), self.resize_crop.cut(b, drawn)

    def names(self, indices: Tensor) -> list[str]:
        """The files of a batch."""
        pairs = (self.dataset.items[index] for index in indices.tolist())
        return [str(a) if a == b else f"{a} with {b}" for a, b in pairs]


class UnpairedSets:
    """Two unpaired sets of images, for training by cycle consistency.

    An epoch is as long as the larger set (Zhu et al. 2017); `unpaired` says which images an index stands for.
    """

    def __init__(
        self,
        specs: tuple[ImageSpec, ImageSpec],
        resize_crop: ResizeCrop,
        datasets: tuple[CachedDataset, CachedDataset],
    ) -> None:
        self.specs, self.resize_crop, self.datasets = specs, resize_crop, datasets
        self.problems = [*datasets[0].problems, *datasets[1].problems]

    @classmethod
    def load(
        cls,
        a: Sequence[Path],
        b: Sequence[Path],
        specs: tuple[ImageSpec, ImageSpec],
        resize_crop: ResizeCrop,
        **options: Any,
    ) -> "UnpairedSets":
        """Read every image of both lists once. options: as for `CachedDataset`, budget_bytes for each.

        Raises DataError where none of A, or none of B, can be read.
        """

        def load_one(paths: Sequence[Path], spec: ImageSpec) -> CachedDataset:
            def read(path: Path) -> tuple[Tensor]:
                image = spec.read(path)
                return (spec.resize(image, resize_crop.loaded(*image.shape[1:])),)

            return CachedDataset(paths, read, **options)

        datasets = load_one(a, specs[0]), load_one(b, specs[1])
        for name, dataset in zip("AB", datasets, strict=True):
            if not dataset.items:
                raise DataError(f"no image of {name} can be read. " + shortened(dataset.problems))
        return cls(specs, resize_crop, datasets)

    def __len__(self) -> int:
        return max(map(len, self.datasets))

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """(7, n) for `batch`: windows and flips of A and of B, independent of each other, and which image of B."""
        # float64, since float32 cannot index more than 16 million images
        return torch.rand(7, n, generator=random, dtype=torch.float64)

    def batch(self, indices: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(A, B) at the indices (N,), each (N, C, h, w). drawn: of `draw`; None: the center of image i of each set."""
        windows = (None, None) if drawn is None else (drawn[:3], drawn[3:6])
        a, b = (
            self.resize_crop.cut([images[0] for images in dataset.get(chosen.tolist())], window)
            for dataset, chosen, window in zip(
                self.datasets, unpaired(self.datasets, indices, drawn), windows, strict=True
            )
        )
        return a, b

    def names(self, indices: Tensor, drawn: Tensor | None = None) -> list[str]:
        """The files of a batch, those of A and those of B."""
        sides = zip(self.datasets, unpaired(self.datasets, indices, drawn), strict=True)
        return [str(dataset.items[index]) for dataset, chosen in sides for index in chosen.tolist()]


def unpaired(sides: tuple[Sized, Sized], indices: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor]:
    """(indices in A, indices in B) of the indices (N,) of a batch: i modulo the size of A, and a random image of B.

    drawn: its last row (N,), uniform in [0, 1), chooses the image of B; None: i modulo the size of B.
    """
    a, b = (indices % len(side) for side in sides)
    return a, b if drawn is None else (drawn[-1] * len(sides[1])).long()


def _halves(path: Path, *specs: ImageSpec) -> list[Tensor]:
    """The left half of a file as the first spec reads it, and the right half as the second does."""
    a = specs[0].read(path)
    b = a if specs[1] == specs[0] else specs[1].read(path)
    width = a.shape[2]
    if width % 2:
        raise ImageError(f"{path}: {counted(width, 'pixel')} wide, which cannot be divided into two equal halves")
    return [a[:, :, : width // 2].contiguous(), b[:, :, width // 2 :].contiguous()]

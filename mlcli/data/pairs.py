"""Data for translation between two sets of images, A and B: aligned pairs, or two sets without any such tie.

    pairing = find_pairs("facades", "train")           which files belong together; problems: what is left over
    data = PairSet.load(pairing, (ImageSpec(labels=12), ImageSpec(3)), ResizeCrop())
    drawn = data.draw(n, rng(seed, purpose, step))      (3, n), for the whole batch of all processes
    a, b = data.batch(indices, processes.shard(drawn, 1))     as stored, on the CPU
    x = data.kinds[0].signal(a.to(device))                    what a network takes

`UnpairedSets` is used in the same way. What a step sees is a function of its indices and of what was drawn, so a
resumed run sees what an unbroken one does.
"""

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.pairing import Pairing, shortened
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.io import image_io
from mlcli.io.decoding import decode

MODES = ("resize-and-crop", "crop", "scale-width", "scale-width-and-crop", "none")
SHOWN = 8  # values of a map in a message
BUDGET = 4 << 30  # bytes of pixels that are held in memory

# ----------------------------------------------------------------------------------- what becomes of an image


@dataclass(frozen=True)
class ImageSpec:
    """What the images of a set are: gray (channels 1), color (3), or maps of `labels` classes.

    A map holds the number of its class at each pixel, as the value of gray or the index of a palette, from 0 on.
    """

    channels: int = 3
    labels: int = 0

    def __post_init__(self):
        if self.channels not in (1, 3):
            raise UsageError(f"{self.channels} channels: images have 1 (gray) or 3 (color)")
        if not 0 <= self.labels <= 256:
            raise UsageError(f"{self.labels} labels: maps have 1 to 256 classes")

    @property
    def width(self) -> int:
        """The channels of `signal`."""
        return self.labels or self.channels

    def read(self, path: str | Path) -> Tensor:
        """(channels, H, W) uint8, or float in [0, 1] of a deep source; (1, H, W) uint8 of a map. Raises ImageError."""
        if self.labels:
            return self._checked(image_io.read_labels(path), path)
        image = image_io.read(path)
        return image_io.to_gray(image) if self.channels == 1 else image

    def _checked(self, numbers: Tensor, path: str | Path) -> Tensor:
        if int(numbers.max()) < self.labels:  # as a byte, 256 would be 0
            return numbers
        found = numbers.unique().tolist()
        shown = ", ".join(map(str, found[:SHOWN])) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        limits = f"{path}: holds the values {shown}, and a map of {self.labels} classes holds 0 to {self.labels - 1}"
        if len(found) <= self.labels:  # such as 0 and 255
            numbered = ", ".join(
                f"{value} to {number}" for number, value in enumerate(found[:SHOWN]) if value != number
            )
            raise ImageError(f"{limits}; number the classes from 0 on, here {numbered}, and save the map as PNG")
        raise ImageError(f"{limits}; give as many classes as there are (--labels-a, --labels-b)")

    def resize(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """(C, H, W) at another size, bicubic with antialiasing; of a map, the nearest pixel."""
        if image.shape[1:] == size:
            return image
        if self.labels:
            return F.interpolate(image[None], size, mode="nearest-exact")[0]
        resized = F.interpolate(image[None].float(), size, mode="bicubic", antialias=True)[0]
        return resized.clamp(0, 1) if image.is_floating_point() else resized.clamp(0, 255).round().to(image.dtype)

    def signal(self, batch: Tensor) -> Tensor:
        """What a network takes, float32 (N, width, H, W): images in [-1, 1], maps one-hot. On any device."""
        if self.labels:
            return F.one_hot(batch[:, 0].long(), self.labels).movedim(3, 1).float()
        return image_io.to_unit(batch) * 2 - 1

    def images(self, signal: Tensor) -> Tensor:
        """The inverse of `signal` for the eye, (N, 1 or 3, H, W) in [0, 1]; of a map the likeliest class, in grays."""
        if self.labels:
            return signal.argmax(1, keepdim=True).float() / max(1, self.labels - 1)
        return (signal.float() * 0.5 + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class ResizeCrop:
    """How images of any size come to the size of training; sizes are (height, width) in pixels.

    resize-and-crop: brought to `load`, whatever their ratio, and a random window of `size` cut out (pix2pix: 286 and
    256). crop: the window is cut out of the image as it is. scale-width: brought to the width of `load`, the ratio
    kept; scale-width-and-crop: and a window cut out. none: left as it is. Sides that are not cut are rounded to a
    `multiple`. An image smaller than the window is enlarged to hold it. flip: mirrored at random, left to right.
    """

    size: tuple[int, int] = (256, 256)
    load: tuple[int, int] = (286, 286)
    mode: str = "resize-and-crop"
    flip: bool = True
    multiple: int = 4

    def __post_init__(self):
        if self.mode not in MODES:
            raise UsageError(f"{self.mode}: unknown way to bring images to size; take {', '.join(MODES)}")
        if self.mode == "resize-and-crop" and (self.load[0] < self.size[0] or self.load[1] < self.size[1]):
            load, size = (f"{width} x {height}" for height, width in (self.load, self.size))
            raise UsageError(f"images of {load} hold no window of {size}; load them larger")

    @property
    def crops(self) -> bool:
        return self.mode.endswith("crop")

    def still(self) -> "ResizeCrop":
        """The same for validation: nothing cut off that need not be, nothing mirrored."""
        return replace(self, load=self.size if self.mode == "resize-and-crop" else self.load, flip=False)

    def loaded(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that an image is brought to before a window is cut out of it."""
        if self.mode == "resize-and-crop":
            return self.load
        if self.mode.startswith("scale-width"):
            height, width = max(1, round(height * self.load[1] / width)), self.load[1]
        if self.crops:
            factor = max(1, self.size[0] / height, self.size[1] / width)
            return round(height * factor), round(width * factor)
        return tuple(max(1, round(side / self.multiple)) * self.multiple for side in (height, width))

    def cut(self, images: Sequence[Tensor], drawn: Tensor | None) -> Tensor:
        """Images (C, H, W) as loaded to a batch (N, C, h, w).

        drawn: (3, N) uniform in [0, 1): the place of the window from top to bottom and from left to right, and the
        flip; None: the middle, not mirrored. Raises DataError where nothing is cut and the sizes differ.
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
    """What `read` makes of items, in memory as long as all fit the budget, else read again when asked for.

    items: the good ones; problems: an ImageError for each of the others.
    """

    def __init__(
        self,
        items: Sequence,
        read: Callable[[object], tuple[Tensor, ...]],
        *,
        workers: int | None = None,
        budget_bytes: int = BUDGET,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.read, self.workers = read, workers
        self.items: list = []
        self.problems: list[ImageError] = []
        held: list[tuple[Tensor, ...]] | None = []
        used = 0
        for number, images in decode(items, read=read, workers=workers):
            if isinstance(images, ImageError):
                self.problems.append(images)
            else:
                self.items.append(items[number])
                used += sum(image.nbytes for image in images)
                if used > budget_bytes:
                    held = None
                if held is not None:
                    held.append(images)
            if progress is not None:
                progress(number + 1, len(items))
        self.held = held

    def __len__(self) -> int:
        return len(self.items)

    def get(self, indices: Sequence[int]) -> list[tuple[Tensor, ...]]:
        """Raises DataError, naming the file, if one that was good has gone bad since."""
        if self.held is not None:
            return [self.held[index] for index in indices]
        result = []
        for _, images in decode([self.items[index] for index in indices], read=self.read, workers=self.workers):
            if isinstance(images, ImageError):
                raise DataError(f"{images} (it was whole when this began)")
            result.append(images)
        return result


class PairSet:
    """Aligned pairs for training. problems: what was left out, files without partner among them."""

    def __init__(self, pairing: Pairing, kinds: tuple[ImageSpec, ImageSpec], framing: ResizeCrop, store: CachedDataset):
        self.pairing, self.kinds, self.framing, self.store = pairing, kinds, framing, store
        self.problems = [*pairing.problems, *store.problems]

    @classmethod
    def load(cls, pairing: Pairing, kinds: tuple[ImageSpec, ImageSpec], framing: ResizeCrop, **options) -> "PairSet":
        """Read every pair once. kinds: of A and of B. options: workers, budget_bytes, progress, as for `CachedDataset`.

        Raises DataError where no pair can be read.
        """

        def read(pair: tuple[Path, Path]) -> tuple[Tensor, Tensor]:
            if pairing.halves:
                whole = _halves(pair[0], *kinds)
            else:
                whole = [kind.read(path) for kind, path in zip(kinds, pair, strict=True)]
            if framing.mode != "resize-and-crop" and whole[0].shape[1:] != whole[1].shape[1:]:
                sizes = (f"{path} of {x.shape[2]} x {x.shape[1]}" for path, x in zip(pair, whole, strict=True))
                raise ImageError(f"{' and '.join(sizes)}: a pair has one size; take resize-and-crop")
            size = framing.loaded(*whole[0].shape[1:])
            return tuple(kind.resize(image, size) for kind, image in zip(kinds, whole, strict=True))

        store = CachedDataset(pairing.paths, read, **options)
        if not store.items:
            raise DataError(f"{pairing.root}: no pair can be read. " + shortened(store.problems))
        return cls(pairing, kinds, framing, store)

    def __len__(self) -> int:
        return len(self.store)

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """(3, n) for `batch`: window and flip, the same for A and B."""
        return torch.rand(3, n, generator=random)

    def batch(self, indices: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(A, B) of these indices (N,), each (N, C, h, w) as stored: uint8, or float in [0, 1] of deep sources.

        drawn: of `draw`; None: the middle, not mirrored.
        """
        a, b = zip(*self.store.get(indices.tolist()), strict=True)
        return self.framing.cut(a, drawn), self.framing.cut(b, drawn)

    def names(self, indices: Tensor) -> list[str]:
        """The files of a batch."""
        pairs = (self.store.items[index] for index in indices.tolist())
        return [str(a) if a == b else f"{a} with {b}" for a, b in pairs]


class UnpairedSets:
    """Two sets of images that know nothing of each other, for training by cycle consistency.

    An epoch is as long as the larger set (Zhu 2017); `unpaired` says what an index shows.
    """

    def __init__(
        self, kinds: tuple[ImageSpec, ImageSpec], framing: ResizeCrop, stores: tuple[CachedDataset, CachedDataset]
    ):
        self.kinds, self.framing, self.stores = kinds, framing, stores
        self.problems = [*stores[0].problems, *stores[1].problems]

    @classmethod
    def load(
        cls, a: Sequence[Path], b: Sequence[Path], kinds: tuple[ImageSpec, ImageSpec], framing: ResizeCrop, **options
    ) -> "UnpairedSets":
        """Read every image of both lists once. options: as for `CachedDataset`, budget_bytes for each.

        Raises DataError where none of A, or none of B, can be read.
        """

        def reader(kind: ImageSpec) -> Callable[[Path], tuple[Tensor]]:
            def read(path: Path) -> tuple[Tensor]:
                image = kind.read(path)
                return (kind.resize(image, framing.loaded(*image.shape[1:])),)

            return read

        stores = tuple(CachedDataset(paths, reader(kind), **options) for paths, kind in zip((a, b), kinds, strict=True))
        for name, store in zip("AB", stores, strict=True):
            if not store.items:
                raise DataError(f"no image of {name} can be read. " + shortened(store.problems))
        return cls(kinds, framing, stores)

    def __len__(self) -> int:
        return max(map(len, self.stores))

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """(7, n) for `batch`: windows and flips of A and of B, which are each on their own, and the image of B."""
        return torch.rand(7, n, generator=random, dtype=torch.float64)  # float32 does not count past 16 million

    def batch(self, indices: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(A, B), each (N, C, h, w) as stored. drawn: of `draw`; None: image i of each set, its middle."""
        windows = (None, None) if drawn is None else (drawn[:3], drawn[3:6])
        return tuple(
            self.framing.cut([images[0] for images in store.get(place.tolist())], window)
            for store, place, window in zip(self.stores, unpaired(self.stores, indices, drawn), windows, strict=True)
        )

    def names(self, indices: Tensor, drawn: Tensor | None = None) -> list[str]:
        """The files of a batch, those of A and those of B."""
        places = unpaired(self.stores, indices, drawn)
        return [str(store.items[i]) for store, place in zip(self.stores, places, strict=True) for i in place.tolist()]


def unpaired(sides: tuple[Sized, Sized], indices: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor]:
    """(which image of A, which of B) the indices (N,) show: i modulo the size of A, and one of B that is drawn.

    drawn: its last row (N,), uniform in [0, 1), is for the image of B; None: i modulo the size of B.
    """
    a, b = (indices % len(side) for side in sides)
    return a, b if drawn is None else (drawn[-1] * len(sides[1])).long()


def _halves(path: Path, *kinds: ImageSpec) -> list[Tensor]:
    """The left half of a file as the first kind reads it, and the right half as the second does."""
    a = kinds[0].read(path)
    b = a if kinds[1] == kinds[0] else kinds[1].read(path)
    width = a.shape[2]
    if width % 2:
        raise ImageError(f"{path}: {width} pixels wide, which two halves of one width cannot be")
    return [a[:, :, : width // 2].contiguous(), b[:, :, width // 2 :].contiguous()]

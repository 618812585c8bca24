"""The images of a data set for training, resized to one size."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.errors import DataError, ImageError
from mlcli.imaging import image_io
from mlcli.imaging.decoding import decode
from mlcli.io.packed_tensors import PackedTensors


class ImageDataset:
    """Images of one size for training: in memory where they fit, else in a file on disk, else decoded on demand.

    paths, labels: of the readable images, labels int64 or None. problems: an ImageError for each of the others.
    size, channels: each image is (channels, size, size), uint8, as `prepare` makes it from the decoded image.
    pixels: (N, channels, size, size) uint8 in memory, or None.  packed: the images on disk, or None.  hash: of
    the images, where they are not in memory.
    """

    def __init__(
        self,
        paths: list[Path],
        labels: Tensor | None,
        problems: list[ImageError],
        *,
        size: int,
        channels: int,
        workers: int | None,
        pixels: Tensor | None,
        packed: PackedTensors | None = None,
        hash: str = "",
        prepare: Callable[[Tensor], Tensor],
    ) -> None:
        self.paths, self.labels, self.problems = paths, labels, problems
        self.size, self.channels, self.workers = size, channels, workers
        self.pixels, self.packed, self._hash, self.prepare = pixels, packed, hash, prepare

    @classmethod
    def load(
        cls,
        paths: Sequence[str | Path],
        labels: Sequence[int] | None = None,
        *,
        size: int,
        channels: int = 3,
        workers: int | None = None,
        budget_bytes: int = 4 << 30,
        progress: Callable[[int, int], None] | None = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ) -> "ImageDataset":
        """Decode every image once, which finds those that cannot be read, and keep the pixels.

        prepare: (3, H, W) -> (channels, size, size). By default the central square is resized, and converted to gray
        where `channels` is 1. The values are rounded to 8 bits. budget_bytes: of pixels to keep in memory at most.
        progress: called with (done, total) after each image.
        """
        if labels is not None and len(labels) != len(paths):
            raise ValueError(f"{counted(len(paths), 'path')} and {counted(len(labels), 'label')}")
        prepare = _reducer(size, channels) if prepare is None else _bytes_of(prepare)
        shape = (len(paths), channels, size, size)
        total_bytes = torch.Size(shape).numel()
        pixels = torch.empty(shape, dtype=torch.uint8) if total_bytes <= budget_bytes else None
        packed = PackedTensors.opened(total_bytes) if pixels is None else None
        hashed = hashlib.sha256()
        good: list[int] = []
        problems: list[ImageError] = []
        for index, image in decode(paths, prepare, workers=workers):
            if isinstance(image, ImageError):
                problems.append(image)
            else:
                if pixels is not None:
                    pixels[len(good)] = image
                else:
                    hashed.update(image.contiguous().numpy().data)
                if packed is not None:
                    packed = packed.append([image])
                good.append(index)
            if progress is not None:
                progress(index + 1, len(paths))
        return cls(
            [Path(paths[index]) for index in good],
            None if labels is None else torch.tensor([labels[index] for index in good], dtype=torch.int64),
            problems,
            size=size,
            channels=channels,
            workers=workers,
            pixels=None if pixels is None else pixels[: len(good)],
            packed=None if packed is None else packed.mapped(),
            hash=hashed.hexdigest(),
            prepare=prepare,
        )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def class_labels(self) -> Tensor:
        """The labels (N,) of a data set that has them."""
        assert self.labels is not None
        return self.labels

    def digest(self) -> str:
        """SHA-256 over the pixels, to notice other images under the same names."""
        return self._hash if self.pixels is None else hashlib.sha256(self.pixels.numpy().data).hexdigest()

    def batch(self, indices: Tensor) -> Tensor:
        """The images at `indices` (B,) as uint8 (B, channels, size, size).

        Raises DataError, naming the file, if one can no longer be read.
        """
        if self.pixels is not None:
            return self.pixels[indices]
        if self.packed is not None:
            return torch.stack([self.packed[index][0] for index in indices.tolist()])
        chosen = [self.paths[index] for index in indices.tolist()]
        result = torch.empty((len(chosen), self.channels, self.size, self.size), dtype=torch.uint8)
        for index, image in decode(chosen, self.prepare, workers=self.workers):
            if isinstance(image, ImageError):
                raise DataError(f"{image} (it was whole when this began)")
            result[index] = image
        return result


def _reducer(size: int, channels: int) -> Callable[[Tensor], Tensor]:
    """The default of `prepare`: from a decoded image to (channels, size, size) uint8."""
    if channels not in (1, 3):
        raise ValueError(f"an image has 1 or 3 channels, not {channels}")

    def reduce(image: Tensor) -> Tensor:
        image = image_io.to_bytes(image_io.fit(image, size))
        return image_io.to_gray(image) if channels == 1 else image

    return reduce


def _bytes_of(prepare: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda image: image_io.to_bytes(prepare(image))

"""Images of a data set for training, each brought to one size."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mlcli.errors import DataError, ImageError
from mlcli.io import image_io
from mlcli.io.decoding import decode


class ImageDataset:
    """Images brought to one size for training, held in memory where they fit, else decoded when asked for.

    paths, labels: of the good images only, labels int64 or None; problems: an ImageError for each bad one.
    size, channels: each image is (channels, size, size), uint8, as `prepare` makes it of what was read.
    """

    def __init__(self, paths, labels, problems, *, size, channels, workers, pixels, prepare):
        self.paths: list[Path] = paths
        self.labels: Tensor | None = labels
        self.problems: list[ImageError] = problems
        self.size: int = size
        self.channels: int = channels
        self.workers: int | None = workers
        self.prepare: Callable[[Tensor], Tensor] = prepare
        self.pixels: Tensor | None = pixels  # (N, channels, size, size) uint8; None: decoded on demand

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
        """Decode every image once, which finds the bad ones, and keep the pixels if all fit `budget_bytes`.

        Each is cut and resized by `image_io.fit` and its luma taken for channels 1, or all that is done by `prepare`
        ((3, H, W) -> (channels, size, size)); deep sources are rounded to 8 bit.
        progress(done, total) is called after each image.
        """
        if labels is not None and len(labels) != len(paths):
            raise ValueError(f"{len(paths)} paths and {len(labels)} labels")
        prepare = _reducer(size, channels) if prepare is None else _bytes_of(prepare)
        shape = (len(paths), channels, size, size)
        keep = torch.Size(shape).numel() <= budget_bytes
        pixels = torch.empty(shape, dtype=torch.uint8) if keep else None
        good: list[int] = []
        problems: list[ImageError] = []
        for index, image in decode(paths, prepare, workers=workers):
            if isinstance(image, ImageError):
                problems.append(image)
            else:
                if pixels is not None:
                    pixels[len(good)] = image
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
            prepare=prepare,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def digest(self) -> str:
        """SHA-256 over the pixels, which tells images from others of the same names; empty if not in memory."""
        return "" if self.pixels is None else hashlib.sha256(self.pixels.numpy()).hexdigest()

    def batch(self, indices: Tensor) -> Tensor:
        """The images at `indices` (B,) as uint8 (B, channels, size, size).

        Raises DataError, naming the file, if one that was good has gone bad since.
        """
        if self.pixels is not None:
            return self.pixels[indices]
        chosen = [self.paths[index] for index in indices.tolist()]
        result = torch.empty((len(chosen), self.channels, self.size, self.size), dtype=torch.uint8)
        for index, image in decode(chosen, self.prepare, workers=self.workers):
            if isinstance(image, ImageError):
                raise DataError(f"{image} (it was whole when this began)")
            result[index] = image
        return result


def _reducer(size: int, channels: int) -> Callable[[Tensor], Tensor]:
    """The way from an image as read to (channels, size, size) uint8."""
    if channels not in (1, 3):
        raise ValueError(f"an image has 1 or 3 channels, not {channels}")

    def reduce(image: Tensor) -> Tensor:
        image = image_io.to_bytes(image_io.fit(image, size))
        return image_io.to_gray(image) if channels == 1 else image

    return reduce


def _bytes_of(prepare: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda image: image_io.to_bytes(prepare(image))

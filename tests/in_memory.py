"""Data sets of images that were never files."""

from pathlib import Path

from torch import Tensor

from mlcli.data.image_dataset import ImageDataset


def dataset(pixels: Tensor, labels: Tensor | None = None) -> ImageDataset:
    """Square images (N, C, S, S) uint8 with labels (N,), under the names 0.png, 1.png and so on."""
    return ImageDataset(
        [Path(f"{number}.png") for number in range(len(pixels))],
        labels,
        [],
        size=pixels.shape[-1],
        channels=pixels.shape[1],
        workers=None,
        pixels=pixels,
        prepare=lambda image: image,
    )

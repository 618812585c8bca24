"""Preprocessing of an image of any size for a network: resize, crop, convert to gray, normalize."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlcli.counting import counted
from mlcli.imaging import image_io
from mlcli.imaging.memory_images import MemoryImage
from mlcli.io import schema

# Pixels of the short side of a photograph that resizing can start from: twice the size of the input, and of a small
# input more, since what is left out there changes the classes of a few images in a hundred.
SUFFICES, AT_LEAST = 2, 512
LARGEST = 4096  # pixels a side of the input of a network; a file may not ask for more
FIELDS = schema.record(
    {},
    {
        "resize": schema.optional(schema.integer(1, 2 * LARGEST)),
        "crop": schema.integer(1, LARGEST),
        "mean": schema.items(schema.number(), 1, 3),
        "std": schema.items(schema.number(1e-6), 1, 3),
        "interpolation": schema.choice("bilinear", "bicubic"),
        "channels": schema.choice(1, 3),
        "squash": schema.boolean,
        "resampling": schema.choice("torch", "pillow"),
    },
    closed=True,
)


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of the images that a network takes.

    resize: the short side is resized to this number of pixels, and the center (crop, crop) is kept, as torchvision
    does; None: the central square is resized to `crop`, as for training here. squash: the whole image is resized to
    (crop, crop), whatever its ratio, as some of timm's models were evaluated. mean, std: for each channel, of values in
    [0, 1]. channels: 1 for networks of gray images, else 3. resampling: "torch" resizes in floats, as torchvision does
    with tensors; "pillow" resizes images of 8 bits in bytes, as Pillow does, which rounds between its two passes. The
    two differ by one level of 255 in every sixth value, which can decide between classes of almost equal probability.
    From Pillow itself the second differs, in photographs, in one value of a hundred by one or two levels; it takes a
    quarter of the time for bicubic interpolation.
    """

    resize: int | None = None
    crop: int = 32
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    channels: int = 3
    squash: bool = False
    resampling: str = "torch"

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Preprocessing":
        """From what `dataclasses.asdict` gave, read from a file. Raises schema.Invalid."""
        FIELDS(description)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in description.items()
        }
        channels = values.get("channels", 3)
        for name in ("mean", "std"):
            if len(values.get(name, (0.0,) * 3)) != channels:
                raise schema.Invalid(f"should be of {counted(channels, 'number')}, one a channel", (name,))
        result = cls(**values)
        if not result.squash and result.resize is not None and result.resize < result.crop:
            raise schema.Invalid(f"should be at least {result.crop}, what is cut out, is {result.resize}", ("resize",))
        return result

    def prepare(self, image: Tensor) -> Tensor:
        """(3, H, W), uint8 or float in [0, 1] -> (channels, crop, crop) of its type, contiguous, not normalized."""
        if self.squash:
            image = stretch(image, (self.crop, self.crop), self.interpolation, self.resampling)
        elif self.resize is None:
            image = image_io.fit(image, self.crop)
        else:
            image = center_crop(resize(shorten(image), self.resize, self.interpolation, self.resampling), self.crop)
        return (image_io.to_gray(image) if self.channels == 1 else image).contiguous()

    def read(self, path: str | Path | MemoryImage) -> Tensor:
        """An image as `prepare` takes it, (3, H, W): of a large JPEG no more than resizing needs. Raises ImageError.

        The prepared image differs from that of the whole file by a fifth of a level of 255 on average.
        """
        return image_io.read(path, enough=max(AT_LEAST, SUFFICES * (self.resize or self.crop)))

    def source_box(self, box: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
        """The box (left, top, right, bottom) in an image (height, width) that a box of the prepared image shows.

        Rounded outwards to whole pixels. Pixels around it that only antialiasing mixes in are not included.
        """
        if self.squash:
            rows, columns = _Axis(0, height, self.crop, 0), _Axis(0, width, self.crop, 0)
        elif self.resize is None:
            top, left, side = image_io.central_square(height, width)
            rows, columns = _Axis(top, side, self.crop, 0), _Axis(left, side, self.crop, 0)
        else:
            cut_rows, cut_columns = _ends(height, width)
            kept = height - 2 * cut_rows, width - 2 * cut_columns
            resized = _resized(*kept, self.resize)
            corner = _corner(*resized, self.crop)
            rows = _Axis(cut_rows, kept[0], resized[0], corner[0])
            columns = _Axis(cut_columns, kept[1], resized[1], corner[1])
        left, top, right, bottom = box
        return columns.floor(left), rows.floor(top), columns.ceil(right), rows.ceil(bottom)

    def normalize(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> float32, normalized."""
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return (image_io.to_unit(images) - mean).div_(std)


class _Axis(NamedTuple):
    """One axis of a resize and crop: `length` pixels from `start` became `resized`, of which `corner` were cut off."""

    start: int
    length: int
    resized: int
    corner: int

    def floor(self, prepared: int) -> int:
        return self.start + (self.corner + prepared) * self.length // self.resized

    def ceil(self, prepared: int) -> int:
        return self.start - (-(self.corner + prepared) * self.length // self.resized)


def shorten(image: Tensor, ratio: int = 32) -> Tensor:
    """(C, H, W) without the ends of a long strip, which the center crop does not show anyway.

    Resizing a strip of 1 x 10000 would take gigabytes. Its middle is kept, about `ratio` times as long as wide; both
    ends lose the same number of pixels, so that the center stays.
    """
    height, width = image.shape[1:]
    rows, columns = _ends(height, width, ratio)
    return image[:, rows : height - rows, columns : width - columns] if rows or columns else image


def _ends(height: int, width: int, ratio: int = 32) -> tuple[int, int]:
    """(rows, columns) that `shorten` removes at each end."""
    return max(0, (height - ratio * width) // 2), max(0, (width - ratio * height) // 2)


def resize(image: Tensor, size: int, interpolation: str = "bilinear", resampling: str = "torch") -> Tensor:
    """(C, H, W) with its short side resized to `size`, antialiased, keeping the ratio; the values of torchvision."""
    return stretch(image, _resized(image.shape[1], image.shape[2], size), interpolation, resampling)


def stretch(
    image: Tensor, target: tuple[int, int], interpolation: str = "bilinear", resampling: str = "torch"
) -> Tensor:
    """(C, H, W) resized to `target`, (height, width), antialiased. resampling: as in `Preprocessing`."""
    if target == image.shape[1:]:
        return image
    in_bytes = resampling == "pillow" and image.dtype == torch.uint8
    source = image[None] if in_bytes else image[None].float()
    resized = nn.functional.interpolate(source, target, mode=interpolation, antialias=True)[0]
    if in_bytes:
        return resized
    if image.is_floating_point():
        return resized.clamp(0, 1)  # bicubic overshoots
    return resized.clamp(0, 255).round().to(image.dtype)


def _resized(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) after `resize`; the long side is truncated, as in torchvision."""
    return (size, int(size * width / height)) if height <= width else (int(size * height / width), size)


def center_crop(image: Tensor, size: int) -> Tensor:
    """The center (C, size, size) of an image with sides of at least `size`, rounded as in torchvision."""
    top, left = _corner(image.shape[1], image.shape[2], size)
    return image[:, top : top + size, left : left + size]


def _corner(height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of the `center_crop` of an image."""
    return round((height - size) / 2), round((width - size) / 2)

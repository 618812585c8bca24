"""From an image of any size to what a network takes: resize, crop, gray, normalize."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mlcli.io import image_io, schema

LARGEST = 4096  # pixels a side that a network takes; no file may ask for images without end
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
    """What an image goes through on its way into the network.

    With `resize` the short side is brought to so many pixels and the center (crop, crop) is kept, as torchvision does
    it; without, the central square is brought to `crop` at once, as images are for training here. Then channels are
    normalized by `mean` and `std` (for values in [0, 1]). `channels` is 1 for networks of gray images. With `squash`
    the whole image is resized to (crop, crop), whatever its ratio, as some of timm's models were evaluated.
    resampling: whose arithmetic resizes images of 8 bits, torch's (in floats) or Pillow's (rounded to bytes between
    its two passes); what a network was evaluated with differs from the other by a level of 255 in every sixth value,
    which decides between classes that are about equally probable.
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
    def of(cls, description: Mapping) -> "Preprocessing":
        """What `dataclasses.asdict` made of one, from a file. Raises schema.Invalid for what is none."""
        FIELDS(description)
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in description.items()}
        channels = values.get("channels", 3)
        for name in ("mean", "std"):
            if len(values.get(name, (0.0,) * 3)) != channels:
                raise schema.Invalid(f"should be of {channels} numbers, one a channel", (name,))
        result = cls(**values)
        if not result.squash and result.resize is not None and result.resize < result.crop:
            raise schema.Invalid(f"should be at least {result.crop}, what is cut out, is {result.resize}", ("resize",))
        return result

    def prepare(self, image: Tensor) -> Tensor:
        """One image (3, H, W), uint8 or float in [0, 1] -> (channels, crop, crop) of its type, not normalized."""
        if self.squash:
            image = stretch(image, (self.crop, self.crop), self.interpolation, self.resampling)
        elif self.resize is None:
            image = image_io.fit(image, self.crop)
        else:
            image = center_crop(resize(shorten(image), self.resize, self.interpolation, self.resampling), self.crop)
        return image_io.to_gray(image) if self.channels == 1 else image

    def source_box(self, box: tuple[int, int, int, int], height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in an image (height, width) of what a box of its prepared form shows.

        Rounded outwards to whole pixels. The pixels around it from which antialiasing takes a share do not count.
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
        return (image_io.to_unit(images) - mean) / std


class _Axis(NamedTuple):
    """One axis of a resize and crop: `length` pixels from `start` on became `resized`, of which `corner` were cut."""

    start: int
    length: int
    resized: int
    corner: int

    def floor(self, prepared: int) -> int:
        return self.start + (self.corner + prepared) * self.length // self.resized

    def ceil(self, prepared: int) -> int:
        return self.start - (-(self.corner + prepared) * self.length // self.resized)


def shorten(image: Tensor, ratio: int = 32) -> Tensor:
    """(C, H, W) without the ends of a long strip, of which the center crop shows nothing anyway.

    To resize a strip of 1 x 10000 as it is would take gigabytes. Its middle is kept, about `ratio` times as long as
    wide; as many pixels go at one end as at the other, so that the center stays where it was.
    """
    height, width = image.shape[1:]
    rows, columns = _ends(height, width, ratio)
    return image[:, rows : height - rows, columns : width - columns] if rows or columns else image


def _ends(height: int, width: int, ratio: int = 32) -> tuple[int, int]:
    """(rows, columns) that `shorten` takes off each end."""
    return max(0, (height - ratio * width) // 2), max(0, (width - ratio * height) // 2)


def resize(image: Tensor, size: int, interpolation: str = "bilinear", resampling: str = "torch") -> Tensor:
    """(C, H, W) with its short side resized to `size`, antialiased, the ratio kept; the very values of torchvision."""
    return stretch(image, _resized(*image.shape[1:], size), interpolation, resampling)


def stretch(
    image: Tensor, target: tuple[int, int], interpolation: str = "bilinear", resampling: str = "torch"
) -> Tensor:
    """(C, H, W) resized to `target`, (height, width), antialiased; colors of 8 bits as `resampling` says."""
    if target == image.shape[1:]:
        return image
    if resampling == "pillow" and image.dtype == torch.uint8 and len(image) == 3:
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        resized = image_io.to_pillow(image).resize(target[::-1], filters[interpolation])
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    # Bytes through floats, as torchvision does: torch's own arithmetic in bytes rounds twice.
    resized = nn.functional.interpolate(image[None].float(), target, mode=interpolation, antialias=True)[0]
    if image.is_floating_point():
        return resized.clamp(0, 1)  # bicubic overshoots
    return resized.clamp(0, 255).round().to(image.dtype)


def _resized(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) that `resize` gives an image; the long side is truncated, as torchvision does it."""
    return (size, int(size * width / height)) if height <= width else (int(size * height / width), size)


def center_crop(image: Tensor, size: int) -> Tensor:
    """The middle (C, size, size) of an image with both sides at least `size`, rounded as torchvision does."""
    top, left = _corner(*image.shape[1:], size)
    return image[:, top : top + size, left : left + size]


def _corner(height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of the `center_crop` of an image."""
    return round((height - size) / 2), round((width - size) / 2)

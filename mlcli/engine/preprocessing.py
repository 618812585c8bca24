"""From a picture of any size to what a network takes: resize, crop, gray, normalise."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlcli.engine import images


@dataclass(frozen=True)
class Preprocessing:
    """What a picture goes through on its way into the network.

    With `resize` the short side is brought to so many pixels and the centre (crop, crop) is kept, as torchvision does
    it; without, the central square is brought to `crop` at once, as pictures are for training here. Then channels are
    normalised by `mean` and `std` (for values in [0, 1]). `channels` is 1 for networks of gray pictures.
    """

    resize: int | None = None
    crop: int = 32
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    channels: int = 3

    def prepare(self, image: Tensor) -> Tensor:
        """One picture (3, H, W), uint8 or float in [0, 1] -> (channels, crop, crop) of its type, not normalised."""
        if self.resize is None:
            image = images.fit(image, self.crop)
        else:
            image = centre_crop(resize(shorten(image), self.resize, self.interpolation), self.crop)
        return images.to_gray(image) if self.channels == 1 else image

    def normalise(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> float32, normalised."""
        mean, std = (torch.tensor(v, device=pictures.device)[:, None, None] for v in (self.mean, self.std))
        return (images.to_unit(pictures) - mean) / std


def shorten(image: Tensor, ratio: int = 32) -> Tensor:
    """(C, H, W) without the ends of a long strip, of which the centre crop shows nothing anyway.

    To resize a strip of 1 x 10000 as it is would take gigabytes. Its middle is kept, about `ratio` times as long as
    wide; as many pixels go at one end as at the other, so that the centre stays where it was.
    """
    height, width = image.shape[1:]
    for dim, long, short in ((1, height, width), (2, width, height)):
        cut = (long - ratio * short) // 2
        if cut > 0:
            return image.narrow(dim, cut, long - 2 * cut)
    return image


def resize(image: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """(C, H, W) with its short side resized to `size`, antialiased, the ratio kept; the very values of torchvision."""
    height, width = image.shape[1:]
    if min(height, width) == size:
        return image
    # torchvision truncates the long side as well
    target = (size, int(size * width / height)) if height <= width else (int(size * height / width), size)
    # Bytes through floats, as torchvision does: torch's own arithmetic in bytes rounds twice.
    resized = nn.functional.interpolate(image[None].float(), target, mode=interpolation, antialias=True)[0]
    if image.is_floating_point():
        return resized.clamp(0, 1)  # bicubic overshoots
    return resized.clamp(0, 255).round().to(image.dtype)


def centre_crop(image: Tensor, size: int) -> Tensor:
    """The middle (C, size, size) of a picture with both sides at least `size`, rounded as torchvision does."""
    height, width = image.shape[1:]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[:, top : top + size, left : left + size]

"""Images that are in memory already, where a path could be given."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlcli.errors import UsageError
from mlcli.imaging import srgb


@dataclass(frozen=True, eq=False)
class MemoryImage:
    """An image (3, H, W), uint8 or float32 in [0, 1], with a name by which messages and results call it."""

    pixels: Tensor
    name: str

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, image: Any, number: int = 0) -> "MemoryImage":
        """Of an image of Pillow, an array (H, W) or (H, W, 1 to 4), or a tensor (1 or 3, H, W); uint8 or in [0, 1].

        number: of the image among those given, by which one without a file name is named. Raises UsageError for
        anything else.
        """
        name = f"image {number}"
        if isinstance(image, Image.Image):
            return cls(srgb.from_pillow(image), getattr(image, "filename", "") or name)
        if isinstance(image, np.ndarray):
            if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
                raise UsageError(f"{name}: an array of shape {image.shape}; take (H, W), (H, W, 3) or (H, W, 4)")
            if image.dtype == np.uint8:
                return cls(
                    srgb.from_pillow(Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image)), name
                )
            image = torch.from_numpy(np.ascontiguousarray(image))
            image = image[None] if image.ndim == 2 else image.permute(2, 0, 1)
        if not isinstance(image, Tensor):
            raise UsageError(f"{name}: a {type(image).__name__}; take a path, an image of Pillow, an array or a tensor")
        if image.ndim != 3 or len(image) not in (1, 3):
            raise UsageError(f"{name}: a tensor of shape {tuple(image.shape)}; take (1, H, W) or (3, H, W)")
        image = image.detach().cpu()
        if image.dtype != torch.uint8:
            image = image.to(torch.float32)
            if not (image.isfinite().all() and image.min() >= 0 and image.max() <= 1):
                raise UsageError(f"{name}: floating-point values outside [0, 1]; divide by the largest possible value")
        return cls(image.expand(3, -1, -1), name)

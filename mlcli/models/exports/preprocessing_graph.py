"""The preprocessing of images as operations of a network, so that an exported file takes images of any size.

Antialiased resizing along one axis is a product with a matrix of weights. It is computed from the length of the axis by
elementary operations, which every version of ONNX has, while its own resizing with antialiasing is missing in some
programs. The values are those of Pillow, or of torch, but for rounding: a level of 255 in a few pixels.
"""

import torch
from torch import Tensor, nn

from mlcli.data.preprocessing import Preprocessing

BICUBIC = -0.5  # the parameter a of Keys 1981, as Pillow and torch's antialiased resizing have it


class PreprocessingGraph(nn.Module):
    """Images (N, 3, H, W), uint8, of any size -> normalized (N, C, crop, crop), float32.

    Strips longer than 32 times their width, whose ends `Preprocessing.prepare` cuts off first, are resized whole.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        self.preprocessing = preprocessing
        self.square = not preprocessing.squash and preprocessing.resize is None  # image_io.fit, always bilinear
        self.kernel = _bicubic if preprocessing.interpolation == "bicubic" and not self.square else _bilinear
        self.rounds_between = preprocessing.resampling == "pillow" or self.square  # bytes, as torch resizes them too
        channels = (len(preprocessing.mean), 1, 1)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(channels))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(channels))

    def forward(self, images: Tensor) -> Tensor:
        p = self.preprocessing
        # Sums of ones, since a length that is read as a number would be a constant of the graph
        height = torch.ones_like(images[0, 0, :, 0], dtype=torch.int64).sum()
        width = torch.ones_like(images[0, 0, 0, :], dtype=torch.int64).sum()
        columns = self._weights(images[0, 0, 0, :], width, height)
        rows = self._weights(images[0, 0, :, 0], height, width)
        x = images.float() @ columns.T  # (N, 3, H, crop)
        if self.rounds_between:
            x = (x + 0.5).floor().clamp(0, 255)
        x = (rows @ x).round().clamp(0, 255)
        if p.channels == 1:  # as image_io.to_gray computes it in integers
            x = ((x[:, :1] * 299 + x[:, 1:2] * 587 + x[:, 2:] * 114 + 500) / 1000).floor()
        return (x / 255 - self.mean) / self.std

    def _weights(self, line: Tensor, length: Tensor, other: Tensor) -> Tensor:
        """(crop, length): the weights of the pixels along an axis for each of the prepared image.

        line: pixels along the axis.  other: the length of the other axis.
        """
        p = self.preprocessing
        one = torch.ones_like(length)
        start, kept, resized, corner = 0 * one, length, p.crop * one, 0 * one
        if self.square:
            kept = torch.minimum(length, other)
            start = torch.div(length - kept, 2, rounding_mode="floor")
        elif not p.squash and p.resize is not None:
            short = torch.minimum(length, other)
            resized = torch.div(p.resize * length, short, rounding_mode="floor")
            corner = ((resized - p.crop).float() / 2).round().long()
        scale = kept.float() / resized.float()
        positions = torch.arange(p.crop) + corner
        centers = (positions.float() + 0.5) * scale - 0.5 + start  # (crop,) in pixels of the image
        pixels = torch.ones_like(line, dtype=torch.int64).cumsum(0) - 1  # (length,)
        weights = self.kernel(((pixels.float() - centers[:, None]) / scale.clamp_min(1)).abs())
        inside = (pixels >= start) & (pixels < start + kept)
        weights = torch.where(inside, weights, torch.zeros_like(weights))
        return weights / weights.sum(1, keepdim=True)


def _bilinear(x: Tensor) -> Tensor:
    """The triangle at distances x >= 0."""
    return (1 - x).clamp_min(0)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' kernel at distances x >= 0; zero from 2 on."""
    near = ((BICUBIC + 2) * x - (BICUBIC + 3)) * x * x + 1
    far = ((BICUBIC * x - 5 * BICUBIC) * x + 8 * BICUBIC) * x - 4 * BICUBIC
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))

"""Occlusion (Zeiler and Fergus 2014): how much the target's value falls where a gray square hides the image.

The square slides over the image. The attribution of a pixel is the mean fall over all squares that hide it, the same
for all channels. Gray is the mean of the training data. At the end of a row a square may lie partly outside, as in
captum, so that every pixel is hidden.

Only what a square changes in the first layers is computed again; see `incremental_inference`.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor

from mlcli.errors import UsageError
from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target


def occlusion(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The attribution (C, H, W) of each image. Raises UsageError for a square or a stride that does not fit."""
    height, width = images.shape[2:]
    side, stride = square(config, min(height, width))
    corners = [(top, left) for top in _starts(height, side, stride) for left in _starts(width, side, stride)]
    whole = scorer.values(images, targets)
    hidden = torch.zeros(height, width, device=images.device)  # how many squares hide each pixel
    for top, left in corners:
        hidden[top : top + side, left : left + side] += 1
    gray = torch.zeros(1, images.shape[1], 1, 1, device=images.device)
    found = []
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        values = scorer.values_with_squares(image[None], gray, corners, side, target)
        total = torch.zeros_like(hidden)
        for (top, left), fall in zip(corners, (whole[number] - values).tolist(), strict=True):
            total[top : top + side, left : left + side] += fall
        found.append(Attribution((total / hidden).expand_as(image)))
    return found


def square(config: Explaining, side: int) -> tuple[int, int]:
    """(side, stride) of the gray square for images of this side, in pixels. Raises UsageError."""
    window = config.window or max(1, side // 7)
    stride = config.stride or max(1, window // 2)
    if window > side:
        raise UsageError(f"--window {window}: the network is given images of {side} pixels; take at most {side}")
    if stride > window:
        raise UsageError(f"--stride {stride}: leaves pixels unhidden by a square of {window}; take at most {window}")
    return window, stride


def _starts(length: int, side: int, stride: int) -> range:
    return range(0, stride * ceil((length - side) / stride) + 1, stride)

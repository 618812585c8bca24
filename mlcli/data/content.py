"""Cropping an image of a drawing to its content, which stands out from the paper."""

import math

import torch
from torch import Tensor

MARGIN = 0.15  # around the content, as a fraction of its longer side
LEAST = 0.2  # side of the crop, of the image's short side: a dot stays small


def cut_to_content(image: Tensor) -> Tensor:
    """(C, H, W) -> the square (C, S, S) around its content, uint8 or float; outside the image it is filled with paper.

    The color of the paper is the median of the border. Content differs from it by more than half of the largest
    difference, so that strokes count and the grain of the paper does not. An image of one color is left as it is.
    """
    height, width = image.shape[1:]
    border = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], 1)  # (C, 2 W + 2 H)
    paper = border.median(1).values[:, None, None]
    difference = (image.float() - paper.float()).abs().amax(0)  # (H, W)
    if not difference.any():
        return image
    stands_out = difference > difference.max() / 2
    rows, columns = (stands_out.any(axis).nonzero()[:, 0] for axis in (1, 0))
    top, bottom, left, right = rows[0].item(), rows[-1].item() + 1, columns[0].item(), columns[-1].item() + 1
    side = math.ceil(max(bottom - top, right - left, LEAST * min(height, width)) * (1 + MARGIN))
    y, x = top - (side - (bottom - top)) // 2, left - (side - (right - left)) // 2
    result = paper.expand(-1, side, side).clone()
    upper, lower, first, last = max(0, y), min(height, y + side), max(0, x), min(width, x + side)
    result[:, upper - y : lower - y, first - x : last - x] = image[:, upper:lower, first:last]
    return result

"""Maps of importance drawn over their images, and sheets of them with a bar of their colors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from mlcli.imaging.image_io import to_gray, to_unit
from mlcli.reporting import canvas, legend

SIGNED, UNSIGNED = "RdBu_r", "inferno"  # matplotlib's names of the colors: blue, white, red; black, red, yellow
STRONGEST = 0.99  # of the pixels: what is above is drawn as the rest of the most important
OPAQUE = 0.85  # of the strongest color
LEAST = 224  # pixels, about the least side of an overlay


class Scaled(NamedTuple):
    """A map (H, W) in [-1, 1], or in [0, 1] where it is not signed."""

    values: Tensor
    signed: bool

    @classmethod
    def of(cls, importance: Tensor) -> "Scaled":
        """By the largest absolute value, but for the largest hundredth of the pixels."""
        magnitude = importance.abs().flatten().float()
        count = max(1, round(STRONGEST * len(magnitude)))
        scale = magnitude.kthvalue(count).values.item() or magnitude.max().item() or 1.0
        return cls((importance.float() / scale).clamp(-1, 1), bool(importance.min() < 0))

    def colored(self) -> Tensor:
        """(3, H, W) in [0, 1]."""
        position = (self.values + 1) / 2 if self.signed else self.values
        colors = colormaps[SIGNED if self.signed else UNSIGNED](position.cpu().numpy())[..., :3]
        return torch.from_numpy(colors.astype(np.float32)).permute(2, 0, 1)


def overlay(image: Tensor, importance: Tensor) -> Tensor:
    """The map (H, W) over the gray image: (3, H, W) in [0, 1], enlarged to about LEAST pixels where it is smaller.

    image: (1 or 3, H, W), uint8 or float in [0, 1]. What is not important stays gray.
    """
    gray = to_unit(image.cpu()).expand(3, -1, -1)
    gray = to_gray(gray).expand(3, -1, -1)
    scaled = Scaled.of(importance.cpu())
    opacity = OPAQUE * scaled.values.abs()
    drawn = (1 - opacity) * gray + opacity * scaled.colored()
    return canvas.enlarged(drawn, max(1, round(LEAST / max(image.shape[1:]))))


def sheet(
    title: str,
    image: Tensor,
    methods: Sequence[str],
    rows: Sequence[tuple[str, Sequence[tuple[Tensor, str]]]],
    *,
    signed: bool,
    unsigned: bool,
) -> Image.Image:
    """The image and the overlays of it, a column for each method and a row for each target, above bars of the colors.

    rows: (target, (overlay, caption) for each method). signed, unsigned: which of the two kinds of maps there are.
    """
    side = max(rows[0][1][0][0].shape[1:])
    shown = canvas.enlarged(to_unit(image.cpu()).expand(3, -1, -1), max(1, round(LEAST / max(image.shape[1:]))))
    strips = [
        (label, [canvas.Strip([shown]), *(canvas.Strip([tile], caption) for tile, caption in tiles)])
        for label, tiles in rows
    ]
    drawn = canvas.sheet(title, ["image", *methods], strips, [1] * (len(methods) + 1), side=side)
    if unsigned:
        drawn = legend.with_bar(drawn, _ramp(UNSIGNED), ("of no importance", "", "most important"), "")
    if signed:
        drawn = legend.with_bar(drawn, _ramp(SIGNED), ("against the target", "0", "for the target"), "")
    return drawn


def _ramp(name: str) -> np.ndarray:
    colors: np.ndarray = colormaps[name](np.linspace(0, 1, 256))[:, :3]
    return (255 * colors).round().astype(np.uint8)

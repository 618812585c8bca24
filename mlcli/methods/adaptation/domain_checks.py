"""Checks for differences of two domains that no adaptation should have to learn: value range, polarity, color."""

import torch
from torch import Tensor

from mlcli.imaging.image_io import to_gray

CHECKED = 1000  # images of each domain
RANGE, POLARITY, COLOR = 0.6, 0.05, 0.02  # thresholds, as fractions of the span of values


def disagreements(source: Tensor, target: Tensor) -> list[str]:
    """Warnings about the images of two domains (N, C, S, S) uint8; usually none."""
    found, domains = [], [each[:: max(1, len(each) // CHECKED)].float() / 255 for each in (source, target)]
    spans = [_span(images) for images in domains]
    lengths = [high - low for low, high in spans]
    (lows, highs) = zip(*spans, strict=True)
    if min(highs) - max(lows) < RANGE * (max(highs) - min(lows)):  # intersection of the spans against their union
        ranges = " and ".join(f"{low:.2f} to {high:.2f}" for low, high in spans)
        found.append(
            f"value ranges disagree: source and target images span {ranges} (of 0 to 1). Bring both to one scale first"
        )
    contrasts = [_polarity(images) / max(length, 1e-6) for images, length in zip(domains, lengths, strict=True)]
    if contrasts[0] * contrasts[1] < 0 and min(map(abs, contrasts)) > POLARITY:
        of_source, of_target = (
            "bright objects on a dark background" if contrast > 0 else "dark objects on a bright background"
            for contrast in contrasts
        )
        found.append(
            f"polarity disagrees: the source shows {of_source}, the target {of_target}. Invert one of them first"
        )
    colored = [_color(images) > COLOR for images in domains]
    if colored[0] != colored[1]:
        of_source, of_target = ("color" if each else "gray" for each in colored)
        found.append(f"channels disagree: source images are in {of_source}, target images in {of_target}")
    return found


def _span(images: Tensor) -> tuple[float, float]:
    """(median of the darkest pixel of each image, median of the brightest)."""
    flat = images.flatten(1)
    return flat.amin(1).median().item(), flat.amax(1).median().item()


def _polarity(images: Tensor) -> float:
    """Mean over images of how much brighter the middle is than the border, in [-1, 1]."""
    gray = to_gray(images)[:, 0] if images.shape[1] == 3 else images[:, 0]
    size = gray.shape[-1]
    rim, middle = max(1, size // 10), slice(size // 4, size - size // 4)
    border = torch.cat([gray[:, :rim].flatten(1), gray[:, -rim:].flatten(1)], 1)
    return (gray[:, middle, middle].mean((1, 2)) - border.median(1).values).mean().item()


def _color(images: Tensor) -> float:
    """Mean difference between the largest and the smallest channel of a pixel; 0 for gray images."""
    return 0.0 if images.shape[1] == 1 else (images.amax(1) - images.amin(1)).mean().item()

"""Whether two domains disagree in ways that no adaptation should have to learn: range, polarity, color."""

import torch
from torch import Tensor

from mlcli.io.image_io import to_gray

SHOWN = 1000
RANGE, POLARITY, COLOR = 0.6, 0.05, 0.02  # of the span of values


def disagreements(source: Tensor, target: Tensor) -> list[str]:
    """What is to be said of the images of two domains (N, C, S, S) uint8, in words; usually nothing."""
    found, domains = [], [each[:: max(1, len(each) // SHOWN)].float() / 255 for each in (source, target)]
    spans = [_span(images) for images in domains]
    lengths = [high - low for low, high in spans]
    (lows, highs) = zip(*spans, strict=True)
    if min(highs) - max(lows) < RANGE * (max(highs) - min(lows)):  # what they share of what they span together
        words = " and ".join(f"{low:.2f} to {high:.2f}" for low, high in spans)
        found.append(
            f"value ranges disagree: source and target images span {words} (of 0 to 1). Bring both to one scale first"
        )
    sides = [_polarity(images) / max(length, 1e-6) for images, length in zip(domains, lengths, strict=True)]
    if sides[0] * sides[1] < 0 and min(map(abs, sides)) > POLARITY:
        words = ["bright things on a dark ground" if side > 0 else "dark things on a bright ground" for side in sides]
        found.append(
            f"polarity disagrees: the source shows {words[0]}, the target {words[1]}. Invert one of them first"
        )
    colors = [_color(images) > COLOR for images in domains]
    if colors[0] != colors[1]:
        words = ["color" if colored else "gray" for colored in colors]
        found.append(f"channels disagree: source images are in {words[0]}, target images in {words[1]}")
    return found


def _span(images: Tensor) -> tuple[float, float]:
    """(median of the images' darkest pixels, median of their brightest)."""
    flat = images.flatten(1)
    return flat.amin(1).median().item(), flat.amax(1).median().item()


def _polarity(images: Tensor) -> float:
    """How much brighter the middle is than the border: the mean over images, in [-1, 1]."""
    gray = to_gray(images)[:, 0] if images.shape[1] == 3 else images[:, 0]
    size = gray.shape[-1]
    rim, middle = max(1, size // 10), slice(size // 4, size - size // 4)
    border = torch.cat([gray[:, :rim].flatten(1), gray[:, -rim:].flatten(1)], 1)
    return (gray[:, middle, middle].mean((1, 2)) - border.median(1).values).mean().item()


def _color(images: Tensor) -> float:
    """Mean distance of the channels from each other; 0 of gray images."""
    return 0.0 if images.shape[1] == 1 else (images.amax(1) - images.amin(1)).mean().item()

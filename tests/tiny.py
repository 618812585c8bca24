"""Tiny labeled data sets that a network can learn in seconds, drawn again in each test."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Color = tuple[int, int, int]
COLORS = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}


def class_folders(
    root: Path,
    *,
    per_class: int = 20,
    size: int = 16,
    seed: int = 0,
    noise: float = 60,
    colors: Mapping[str, Color] = COLORS,
) -> Path:
    """root/{blue,green,red}/NN.png, or with other classes of other colors: noisy squares of one color."""
    random = np.random.default_rng(seed)
    for name, color in colors.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            pixels = np.array(color) + random.normal(0, noise, (size, size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.png")
    return root


def identities(root: Path, names: Sequence[str], *, each: int = 6, size: int = 16, seed: int = 0) -> Path:
    """root/NAME/NN.png: a gray pattern of 4 x 4 fields for each name, whatever the seed, in noise and shifted."""
    random = np.random.default_rng(seed)
    for name in names:
        pattern = np.random.default_rng(list(name.encode())).integers(0, 2, (4, 4))
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(each):
            pixels = 60 + 140 * np.kron(pattern, np.ones((size // 4, size // 4)))
            pixels = np.roll(pixels, random.integers(-1, 2, 2), (0, 1)) + random.normal(0, 12, (size, size))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:02d}.png")
    return root

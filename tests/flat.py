"""Small images for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def flat(path: Path, level: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    return save(path, np.full(size, level))

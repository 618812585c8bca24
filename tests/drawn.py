"""Drawn images for the tests of translation, in memory and on disk: outlines in A, filled shapes in B."""

from pathlib import Path

import torch
from torch import Tensor

from mlcli.data.pairing import find_pairs
from mlcli.data.pairs import ImageSpec, PairSet, ResizeCrop, UnpairedSets
from mlcli.imaging.image_io import to_pillow
from mlcli.runtime.random_streams import generator


def draw(count: int, size: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(A, B), (count, 3, size, size) uint8: white outlines of squares on black, and the squares red on blue."""
    random = generator(seed)
    a, b = torch.zeros(count, 3, size, size), torch.tensor([30.0, 60, 120])[:, None, None].repeat(count, 1, size, size)
    for number in range(count):
        side = int(torch.randint(size // 4, size // 2 + 1, (1,), generator=random))
        y, x = torch.randint(1, size - side - 1, (2,), generator=random).tolist()
        a[number, :, y : y + side, x : x + side] = 255
        a[number, :, y + 1 : y + side - 1, x + 1 : x + side - 1] = 0
        b[number, :, y : y + side, x : x + side] = torch.tensor([220.0, 60, 40])[:, None, None]
    return a.to(torch.uint8), b.to(torch.uint8)


def write(root: Path, count: int, size: int = 16, seed: int = 0) -> Path:
    """root/A/NN.png and root/B/NN.png."""
    for side, images in zip("AB", draw(count, size, seed), strict=True):
        (root / side).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            to_pillow(image).save(root / side / f"{number:02d}.png")
    return root


def framing(size: int = 16) -> ResizeCrop:
    return ResizeCrop((size, size), (size + 2, size + 2))


def pairs(root: Path, count: int, size: int = 16, seed: int = 0) -> PairSet:
    return PairSet.load(find_pairs(write(root, count, size, seed)), (ImageSpec(), ImageSpec()), framing(size))


def sets(root: Path, count: int, size: int = 16, seed: int = 0) -> UnpairedSets:
    write(root, count, size, seed)
    paths = [sorted((root / side).iterdir()) for side in "AB"]
    return UnpairedSets.load(*paths, (ImageSpec(), ImageSpec()), framing(size))

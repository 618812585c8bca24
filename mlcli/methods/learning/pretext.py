"""Pretext tasks: classification tasks that need no labels, since a transformation of the image defines the class.

Rotation (Gidaris et al. 2018): an image is rotated by 0, 90, 180 or 270 degrees, and the network predicts the angle.
For that it must know what objects look like and which side of them is up. Deviation: a batch holds one random rotation
of each image, where the paper has all four. So a step has as many rotated images, of four times as many originals.

Jigsaw (Noroozi & Favaro 2016): the image is cut into 3 x 3 tiles, which are shuffled by one of a set of permutations,
and the network predicts the permutation. As in the paper, the permutations are as far from each other as possible. A
tile is cropped at a random position in its cell, so that edges do not continue from tile to tile. Its colors are
standardized, since their mean and standard deviation would reveal neighbors too. Deviation: the tiles form one image
for one network of any architecture, where the paper gives each tile to its own copy of the network.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mlcli.methods.learning.supervised import Batch, Supervised
from mlcli.runtime.random_streams import rng

GRID = 3
TILES = GRID * GRID


class Rotation:
    """Class k is a rotation by 90 k degrees, counterclockwise."""

    classes = ("0", "90", "180", "270")

    def draw(self, n: int, size: int, random: torch.Generator) -> Tensor:
        """The class is all that is random, so nothing more is drawn: (0, n)."""
        return torch.empty(0, n)

    def __call__(self, images: Tensor, labels: Tensor, drawn: Tensor) -> Tensor:
        """Rotate the images (N, C, S, S) as their labels (N,) say."""
        rotated = images.clone()
        for label in range(1, len(self.classes)):
            rotated[labels == label] = torch.rot90(images[labels == label], label, (2, 3))
        return rotated


class Jigsaw:
    """Class k has tile orders[k, p] at position p; positions are counted row by row."""

    def __init__(self, count: int, seed: int):
        self.orders = permutations(count, seed)  # (count, 9)
        self.classes = tuple("".join(map(str, order)) for order in self.orders.tolist())

    def draw(self, n: int, size: int, random: torch.Generator) -> Tensor:
        """Offsets down and to the right, in pixels, of each tile of n images in its cell: (2, 9, n)."""
        return torch.randint(0, self.sides(size)[1] + 1, (2, TILES, n), generator=random)

    @staticmethod
    def sides(size: int) -> tuple[int, int]:
        """(side of a cell, difference to the side of a tile); a seventh of it, as in the paper (64 of 75 pixels)."""
        return size // GRID, max(1, round(size // GRID / 7))

    def __call__(self, images: Tensor, labels: Tensor, drawn: Tensor) -> Tensor:
        """Shuffle the tiles of the images (N, C, S, S) as their labels (N,) say.

        drawn: offsets, as `draw` returns them. The gaps between the tiles have the mean color of the image.
        """
        n, _, size, _ = images.shape
        cell, gap = self.sides(size)
        side = cell - gap
        whole = images.permute(0, 2, 3, 1).float()  # (N, S, S, C)
        mean, deviation = whole.mean((1, 2), keepdim=True), whole.std((1, 2), keepdim=True)
        laid = mean.expand_as(whole).clone()
        numbers, inside = torch.arange(n)[:, None, None], torch.arange(side)
        for position in range(TILES):
            tile = self.orders[labels, position]  # (N,)
            rows = (tile // GRID * cell + drawn[0, position])[:, None] + inside  # (N, side)
            columns = (tile % GRID * cell + drawn[1, position])[:, None] + inside
            pixels = whole[numbers, rows[:, :, None], columns[:, None, :]]  # (N, side, side, C)
            pixels = pixels - pixels.mean((1, 2), keepdim=True)
            pixels = pixels / pixels.std((1, 2), keepdim=True).clamp_min(1) * deviation + mean
            top, left = position // GRID * cell + gap // 2, position % GRID * cell + gap // 2
            laid[:, top : top + side, left : left + side] = pixels
        return laid.clamp(0, 255).round().to(images.dtype).permute(0, 3, 1, 2)


def permutations(count: int, seed: int) -> Tensor:
    """Permutations of nine tiles, (count, 9), each as far from those before it as possible.

    The first is random. Each of the others maximizes the least Hamming distance to those already chosen, and among ties
    the sum of the distances. Deviation: the paper's algorithm 1 maximizes the sum alone, which leaves two of thirty
    permutations that differ in only two tiles.
    """
    every = torch.tensor(list(itertools.permutations(range(TILES))), dtype=torch.int8)  # (9!, 9)
    index = int(torch.randint(0, len(every), (1,), generator=rng(seed, "pretext/permutations")))
    nearest, total, chosen = torch.full((len(every),), TILES), torch.zeros(len(every), dtype=torch.int64), []
    for _ in range(count):
        chosen.append(index)
        distance = (every != every[index]).sum(1)
        nearest, total = torch.minimum(nearest, distance), total + distance
        index = int((nearest * (TILES * count + 1) + total).argmax())
    return every[chosen].long()


TASKS: dict[str, Callable[[int, int], Rotation | Jigsaw]] = {
    "rotation": lambda count, seed: Rotation(),
    "jigsaw": Jigsaw,
}


def task(name: str, permutations: int, seed: int) -> Rotation | Jigsaw:
    """The task of this name, a key of TASKS. permutations: number of classes of the jigsaw."""
    return TASKS[name](permutations, seed)


class Pretext(Supervised):
    """Supervised training on the classes of a task. The labels of the images are never read."""

    def __init__(self, chosen: Rotation | Jigsaw, *others: Any):
        """chosen: the task. others: the arguments of `Supervised`."""
        self.task = chosen
        super().__init__(*others)

    def load(self, indices: Tensor, step: int) -> Batch:
        """The batch of a step: transformed images, with their classes in the task."""
        images = self.view(indices, step, rng(self.config.seed, "supervised/augmentation", step))
        # Drawn for the whole batch and then sharded, so that several processes see the same images as one. All classes
        # are equally frequent.
        total, random = len(indices) * self.processes.count, rng(self.config.seed, "pretext/task", step)
        count = len(self.task.classes)
        first = torch.randint(0, count, (1,), generator=random)
        labels = (first + torch.arange(total)) % count
        labels = self.processes.shard(labels[torch.randperm(total, generator=random)])
        drawn = self.processes.shard(self.task.draw(total, self.images.size, random), dim=-1)
        return Batch(self.task(images, labels, drawn), labels, labels, torch.ones(len(labels)))

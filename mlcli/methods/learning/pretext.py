"""Pretext tasks: classes that cost no labels, since a transformation of the image makes them.

Rotation (Gidaris et al. 2018): an image is turned by 0, 90, 180 or 270 degrees, and the network says by which. To know
it must know what things look like, and which way up they stand. Deviation: of each image one rotation, drawn anew at
each step, is in a batch, where the paper has all four: as many rotations a step, of four times as many images.

Jigsaw (Noroozi & Favaro 2016): the image is cut into 3 x 3 tiles, these are shuffled by one of a set of permutations,
and the network says by which. As in the paper the permutations are as far from each other as can be, a tile is cut out
of its cell at a random place, so that edges do not go on from one to the next, and has the mean and the deviation of
its colors taken away, which would tell neighbors too. Deviation: the tiles are laid out as one image, and one
network of any architecture sees it, where the paper shows each tile to a copy of the network of its own.
"""

import itertools

import torch
from torch import Tensor

from mlcli.methods.learning.supervised import Batch, Supervised
from mlcli.runtime.random_streams import rng

GRID = 3
TILES = GRID * GRID


class Rotation:
    """Class k: turned by 90 k degrees, counter-clockwise."""

    classes = ("0", "90", "180", "270")

    def draw(self, n: int, size: int, random: torch.Generator) -> Tensor:
        """Nothing but the class is drawn."""
        return torch.empty(0, n)

    def __call__(self, images: Tensor, labels: Tensor, drawn: Tensor) -> Tensor:
        """(N, C, S, S), (N,) -> (N, C, S, S), each image turned as its label says."""
        turned = images.clone()
        for label in range(1, len(self.classes)):
            turned[labels == label] = torch.rot90(images[labels == label], label, (2, 3))
        return turned


class Jigsaw:
    """Class k: at place p stands tile orders[k, p]; places are counted row by row."""

    def __init__(self, count: int, seed: int):
        self.orders = permutations(count, seed)  # (count, 9)
        self.classes = tuple("".join(map(str, order)) for order in self.orders.tolist())

    def draw(self, n: int, size: int, random: torch.Generator) -> Tensor:
        """(2, 9, n) integers: how far down and to the right in its cell each tile of an image begins."""
        return torch.randint(0, self.sides(size)[1] + 1, (2, TILES, n), generator=random)

    @staticmethod
    def sides(size: int) -> tuple[int, int]:
        """(of a cell, what a tile is narrower), a seventh, as in the paper (64 of 75 pixels)."""
        return size // GRID, max(1, round(size // GRID / 7))

    def __call__(self, images: Tensor, labels: Tensor, drawn: Tensor) -> Tensor:
        """(N, C, S, S), (N,), of `draw` -> (N, C, S, S), the tiles of each image laid out as its label says.

        What they leave free has the mean color of the image.
        """
        n, _, size, _ = images.shape
        cell, gap = self.sides(size)
        side = cell - gap
        whole = images.permute(0, 2, 3, 1).float()  # (N, S, S, C)
        mean, deviation = whole.mean((1, 2), keepdim=True), whole.std((1, 2), keepdim=True)
        laid = mean.expand_as(whole).clone()
        numbers, inside = torch.arange(n)[:, None, None], torch.arange(side)
        for place in range(TILES):
            tile = self.orders[labels, place]  # (N,)
            rows = (tile // GRID * cell + drawn[0, place])[:, None] + inside  # (N, side)
            columns = (tile % GRID * cell + drawn[1, place])[:, None] + inside
            pixels = whole[numbers, rows[:, :, None], columns[:, None, :]]  # (N, side, side, C)
            pixels = pixels - pixels.mean((1, 2), keepdim=True)
            pixels = pixels / pixels.std((1, 2), keepdim=True).clamp_min(1) * deviation + mean
            top, left = place // GRID * cell + gap // 2, place % GRID * cell + gap // 2
            laid[:, top : top + side, left : left + side] = pixels
        return laid.clamp(0, 255).round().to(images.dtype).permute(0, 3, 1, 2)


def permutations(count: int, seed: int) -> Tensor:
    """(count, 9): orders of nine tiles, each as far from those before it as can be.

    The first is drawn; each that follows has the greatest Hamming distance to the nearest of those that are chosen, and
    of several the greatest sum of distances. Deviation: the paper's algorithm 1 goes by the sum alone, which lets two
    of thirty orders differ in two tiles.
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


TASKS = {"rotation": lambda count, seed: Rotation(), "jigsaw": Jigsaw}


def task(name: str, permutations: int, seed: int) -> Rotation | Jigsaw:
    """The task of this name; the jigsaw has so many classes."""
    return TASKS[name](permutations, seed)


class Pretext(Supervised):
    """Supervised training on the classes of a task. The images' own labels are never read."""

    def __init__(self, chosen: Rotation | Jigsaw, *others):
        self.task = chosen
        super().__init__(*others)

    def load(self, indices: Tensor, step: int) -> Batch:
        images = self.view(indices, step, rng(self.config.seed, "supervised/augmentation", step))
        # Drawn for the whole batch and shared out, so that several processes see what one would; each class as often
        # as the others.
        total, random = len(indices) * self.processes.count, rng(self.config.seed, "pretext/task", step)
        count = len(self.task.classes)
        first = torch.randint(0, count, (1,), generator=random)
        labels = (first + torch.arange(total)) % count
        labels = self.processes.shard(labels[torch.randperm(total, generator=random)])
        drawn = self.processes.shard(self.task.draw(total, self.images.size, random), dim=-1)
        return Batch(self.task(images, labels, drawn), labels, labels, torch.ones(len(labels)))

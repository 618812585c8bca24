"""Approximate nearest neighbors of many points at once: an inverted file of k-means cells, searched by matrix products.

A query takes about `probes` · √N distances instead of N, without a loop over single points.
"""

import math
from dataclasses import dataclass
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor

LLOYD_STEPS = 4
TRAINING_POINTS = 32  # points for each cell in k-means; more change the centers little
CROWDED = 4  # largest cell, relative to the mean; in a larger one points are nearly equal, and a sample of them is kept
QUERIES, POINTS = 256, 4096  # size of a block of distances, which fits into the cache of a processor
BLOCK = 64  # columns in each step of `row_minimum`


@dataclass(frozen=True)
class InvertedFile:
    """Points in cells. A query is compared with the points of its own cell and of the cells nearest to it.

    points: (N, D). centers: centers of the cells, (C, D). cell_points: for each cell, the indices of the points with
    which its queries are compared.
    """

    points: Tensor
    centers: Tensor
    cell_points: list[Tensor]

    @classmethod
    def build(
        cls, points: Tensor, generator: torch.Generator, *, cells: int | None = None, probes: int = 8
    ) -> "InvertedFile":
        """Sort points (N, D) into cells by k-means (Lloyd 1982).

        cells: number of cells, by default √N; 1 makes the search exact. probes: number of cells that a query is
        compared with, its own among them. generator: a CPU generator, which chooses the first centers.
        """
        n = len(points)
        cells = min(n, cells or max(1, round(math.sqrt(n))))
        chosen = torch.randperm(n, generator=generator)[: cells * TRAINING_POINTS].to(points.device)
        training = points[chosen]
        centers = training[:cells].clone()
        for _ in range(LLOYD_STEPS if cells > 1 else 0):
            cell = nearest(training, centers)[1]
            sums = torch.zeros_like(centers).index_add_(0, cell, training)
            counts = torch.bincount(cell, minlength=cells)[:, None]
            centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
        cell = nearest(points, centers)[1]
        counts = torch.bincount(cell, minlength=cells)
        shuffled = torch.randperm(n, generator=generator).to(points.device)
        members = shuffled[cell[shuffled].argsort(stable=True)].split(counts[counts > 0].tolist())
        centers = centers[counts > 0]  # of equal centers, one has all the points and the others none
        if cells > 1:
            members = [numbers[: CROWDED * math.ceil(n / cells)] for numbers in members]
        around = torch.cdist(centers, centers).topk(min(probes, len(centers)), largest=False).indices.tolist()
        return cls(points, centers, [torch.cat([members[other] for other in row]) for row in around])

    def search(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """For queries (M, D), the squared distance to a near point and the index of that point, (M,) each."""
        distances = queries.new_full((len(queries),), math.inf)
        numbers = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
        cell = nearest(queries, self.centers)[1]
        asked = cell.argsort(stable=True).split(torch.bincount(cell, minlength=len(self.centers)).tolist())
        for these, candidates in zip(asked, self.cell_points, strict=True):
            if len(these):
                distances[these], found = nearest(queries[these], self.points[candidates])
                numbers[these] = candidates[found]
        return distances, numbers


def nearest(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """For queries (M, D) among points (N, D), the least squared distance and its index, (M,) each, by brute force."""
    best = queries.new_full((len(queries),), math.inf)
    numbers = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    parts = [(at, part, part.square().sum(1) / 2) for at, part in zip(count(0, POINTS), points.split(POINTS))]
    for start in range(0, len(queries), QUERIES):
        these = slice(start, start + QUERIES)
        for at, part, half_norms in parts:
            # |q - p|²/2 = |q|²/2 - (q·p - |p|²/2), where only the last term depends on p
            least, found = row_minimum(torch.addmm(half_norms, queries[these], part.T, alpha=-1))
            better = least < best[these]
            best[these] = torch.where(better, least, best[these])
            numbers[these] = torch.where(better, found + at, numbers[these])
    return (2 * best + queries.square().sum(1)).clamp(min=0), numbers


def row_minimum(values: Tensor) -> tuple[Tensor, Tensor]:
    """The least value of each row of (M, N) and its column.

    In two steps, block by block, since torch computes a minimum ten times as fast as its index.
    """
    m, n = values.shape
    if n % BLOCK:
        values = F.pad(values, (0, -n % BLOCK), value=math.inf)
    blocks = values.view(m, -1, BLOCK)
    least, block = blocks.amin(2).min(1)
    return least, block * BLOCK + blocks[torch.arange(m, device=values.device), block].argmin(1)

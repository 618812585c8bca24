"""The nearest images in feature space (Krizhevsky et al. 2012, section 6.1 and figure 4).

Two images are alike to a network where the vectors of its last hidden layer are near each other. The paper takes the
Euclidean distance; the cosine distance, 1 - cos(q, v), leaves out the length of the vectors, that is, how sure the
network is of what it sees.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mlcli.errors import ImageError
from mlcli.io.decoding import map_images
from mlcli.models.features import Activations, vectors
from mlcli.models.graph import Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime

Blocks = Callable[[], Iterable[tuple[Tensor, Tensor]]]

QUERIES_AT_A_TIME = 256
SPARE = 8  # kept of each block beyond k, so that the rounding of float32 leaves none of the k nearest out


def feature_vectors(
    model: Model,
    layer: Layer,
    paths: Sequence[Path],
    runtime: Runtime,
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[tuple[Path, Tensor | ImageError]]:
    """(path, vector (D,) float32 on the CPU) for each image in order; an ImageError for a bad one.

    Nothing past the layer is computed. Raises WeightsError where a vector is no number.
    """
    activations = Activations(model, [layer.address])

    @torch.inference_mode()
    def compute(images: Tensor) -> Tensor:
        with runtime.autocast():
            values = activations(images.to(runtime.device))[layer.address]
        return model.finite(vectors(values.float(), layer).cpu(), runtime)  # (N, D)

    return map_images(paths, model.preprocessing.prepare, compute, batch_size=batch_size, workers=workers)


def distance(query: Tensor, among: Tensor, metric: str) -> Tensor:
    """(D,), (C, D) -> (C,) in float64: 'euclidean' |q - v|, or 'cosine' 1 - cos(q, v), 0 to 2.

    A vector of zeros has no direction; its cosine with any other counts as 0.
    """
    query, among = query.double(), among.double()
    if metric == "euclidean":
        return (query - among).norm(dim=1)
    return (1 - unit(among) @ unit(query)).clamp_min(0)


def nearness(queries: Tensor, among: Tensor, metric: str) -> Tensor:
    """(Q, D), (C, D) -> (Q, C) in float32, the larger the nearer; one matrix product.

    Orders each row as `distance` does, to rounding: |q - v|^2 = |q|^2 - 2 q v + |v|^2, of which |q|^2 changes no order.
    """
    if metric == "euclidean":
        return 2 * queries @ among.T - among.square().sum(1)
    return unit(queries) @ among.T / among.norm(dim=1).clamp_min(torch.finfo(among.dtype).tiny)


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., D) brought to length 1; those of length 0 stay."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


def nearest(
    queries: Tensor,
    blocks: Blocks,
    k: int,
    metric: str = "cosine",
    *,
    leave_out: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The k nearest of many vectors to each query: (numbers (Q, k) int64, distances (Q, k) float64), nearest first.

    queries: (Q, D) float32.  blocks: called for each few queries, gives all vectors in blocks: their numbers (C,) and
    themselves (C, D); one block is in memory at a time.  leave_out: (Q,) the number that is none of a query's
    neighbors (its own), -1 for nothing to leave out.
    Of vectors equally far the one with the lower number comes first. Where there are fewer than k, the row ends in -1.
    """
    if leave_out is None:
        leave_out = torch.full((len(queries),), -1)
    parts = [
        _nearest(some, blocks(), k, metric, own, device)
        for some, own in zip(queries.split(QUERIES_AT_A_TIME), leave_out.split(QUERIES_AT_A_TIME), strict=True)
    ]
    numbers, distances = zip(*parts, strict=True)
    return torch.cat(numbers), torch.cat(distances)


def _nearest(queries, blocks, k, metric, own, device) -> tuple[Tensor, Tensor]:
    """`nearest` for a few queries."""
    count = len(queries)
    numbers = torch.empty((count, 0), dtype=torch.int64)
    distances = torch.empty((count, 0), dtype=torch.float64)
    there = queries.to(device)
    for block_numbers, block in blocks:
        near = nearness(there, block.to(device), metric)  # (Q, C)
        near.masked_fill_(block_numbers.to(device) == own[:, None].to(device), -torch.inf)
        candidates = near.topk(min(k + SPARE, len(block))).indices.cpu()  # (Q, k')
        new = block_numbers[candidates]
        # Differences of near vectors drown in a matrix product in float32; few are left to be measured exactly.
        exact = torch.stack(
            [distance(query, block[chosen], metric) for query, chosen in zip(queries, candidates, strict=True)]
        )
        exact.masked_fill_(new == own[:, None], torch.inf)
        numbers, distances = _sorted(torch.cat([numbers, new], 1), torch.cat([distances, exact], 1))
        numbers, distances = numbers[:, :k], distances[:, :k]
    return numbers.masked_fill(distances.isinf(), -1), distances


def _sorted(numbers: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Each row by distance, then by number."""
    order = numbers.argsort(dim=1)
    numbers, distances = numbers.gather(1, order), distances.gather(1, order)
    order = distances.argsort(dim=1, stable=True)
    return numbers.gather(1, order), distances.gather(1, order)

"""The nearest images in feature space (Krizhevsky et al. 2012, section 6.1 and figure 4).

Two images are similar to a network if their feature vectors in its last hidden layer are close. The paper takes the
Euclidean distance. The cosine distance, 1 - cos(q, v), ignores the length of the vectors, that is, the confidence of
the network.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from mlcli.errors import ImageError
from mlcli.imaging.decoding import Source, map_images
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime

Block = tuple[Tensor, Tensor]  # indices (C,) int64 and vectors (C, D)

QUERY_BATCH = 256  # queries compared at once
SPARE = 8  # candidates kept beyond k, so that rounding in float32 drops none of the k nearest


def feature_vectors(
    model: Model,
    network: Callable[[Tensor], Tensor],
    paths: Sequence[Source],
    runtime: Runtime,
    *,
    batch_size: int = 32,
    workers: int | None = None,
) -> Iterator[tuple[Source, Tensor | ImageError]]:
    """(path, feature vector (D,) float32 on the CPU) for each image in order; an ImageError for an unreadable one.

    network: normalized images -> vectors, such as `features.LayerVectors`. Raises WeightsError where a vector holds a
    value that is not finite.
    """

    @torch.inference_mode()
    def compute(images: Tensor) -> Tensor:
        with runtime.autocast():
            vectors = network(model.normalized(images.to(runtime.device)))
        return model.finite(vectors.float().cpu(), runtime)  # (N, D)

    how = model.preprocessing
    return map_images(paths, how.prepare, compute, batch_size=batch_size, workers=workers, read=how.read)


def distance(query: Tensor, vectors: Tensor, metric: str) -> Tensor:
    """Distances (C,) in float64 of a query (D,) to vectors (C, D).

    metric: 'euclidean', |q - v|, or 'cosine', 1 - cos(q, v), from 0 to 2. The cosine of a zero vector counts as 0.
    """
    query, vectors = query.double(), vectors.double()
    if metric == "euclidean":
        return (query - vectors).norm(dim=1)
    return (1 - normalized(vectors) @ normalized(query)).clamp_min(0)


def similarity(queries: Tensor, vectors: Tensor, metric: str) -> Tensor:
    """Scores (Q, C) in float32 of queries (Q, D) and vectors (C, D), the larger the nearer, by one matrix product.

    They order each row as `distance` does, up to rounding: |q - v|^2 = |q|^2 - 2 q v + |v|^2, and |q|^2 is constant.
    """
    if metric == "euclidean":
        return 2 * queries @ vectors.T - vectors.square().sum(1)
    return normalized(queries) @ vectors.T / vectors.norm(dim=1).clamp_min(torch.finfo(vectors.dtype).tiny)


def normalized(vectors: Tensor) -> Tensor:
    """Vectors (..., D) scaled to length 1; zero vectors stay zero."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


def nearest(
    queries: Tensor,
    blocks: Callable[[], Iterable[Block]],
    k: int,
    metric: str = "cosine",
    *,
    exclude: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """The k nearest vectors to each query: (indices (Q, k) int64, distances (Q, k) float64), nearest first.

    queries: (Q, D) float32. blocks: called once for each batch of queries; yields all vectors, one block in memory at a
    time. exclude: (Q,), the index that is not a neighbor of the query (usually its own), -1 for none.
    Vectors at equal distances are sorted by index. A row with fewer than k neighbors ends in indices of -1.
    """
    if exclude is None:
        exclude = torch.full((len(queries),), -1)
    parts = [
        _nearest(some, blocks(), k, metric, own, device)
        for some, own in zip(queries.split(QUERY_BATCH), exclude.split(QUERY_BATCH), strict=True)
    ]
    return torch.cat([indices for indices, _ in parts]), torch.cat([distances for _, distances in parts])


def _nearest(
    queries: Tensor, blocks: Iterable[Block], k: int, metric: str, exclude: Tensor, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """`nearest` for one batch of queries."""
    count = len(queries)
    indices = torch.empty((count, 0), dtype=torch.int64)
    distances = torch.empty((count, 0), dtype=torch.float64)
    on_device = queries.to(device)
    for block_indices, block in blocks:
        scores = similarity(on_device, block.to(device), metric)  # (Q, C)
        scores.masked_fill_(block_indices.to(device) == exclude[:, None].to(device), -torch.inf)
        candidates = scores.topk(min(k + SPARE, len(block))).indices.cpu()  # (Q, k')
        new = block_indices[candidates]
        # In float32, rounding in the matrix product exceeds the distances of near vectors. So the distances of the few
        # candidates are computed exactly.
        exact = torch.stack(
            [distance(query, block[chosen], metric) for query, chosen in zip(queries, candidates, strict=True)]
        )
        exact.masked_fill_(new == exclude[:, None], torch.inf)
        indices, distances = _sorted(torch.cat([indices, new], 1), torch.cat([distances, exact], 1))
        indices, distances = indices[:, :k], distances[:, :k]
    return indices.masked_fill(distances.isinf(), -1), distances


def _sorted(indices: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Each row sorted by distance, then by index."""
    order = indices.argsort(dim=1)
    indices, distances = indices.gather(1, order), distances.gather(1, order)
    order = distances.argsort(dim=1, stable=True)
    return indices.gather(1, order), distances.gather(1, order)

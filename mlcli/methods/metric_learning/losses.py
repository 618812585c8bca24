"""Losses of metric learning: L(x_i, x_j) = L(y, g(d(f(x_i), f(x_j)))), where y = 1 for two images of one identity.

A space defines d: it maps the encoder's output f(x) to a point, and d is a norm of the difference of two points, so
that d(a, b) = d(b, a) for any weights. The losses take the points (N, D) and identities (N,) of a batch.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-12  # smallest squared distance under a root, which has no finite gradient at 0


class Space(nn.Module):
    """forward: the encoder's output f (N, D) -> points (N, D). norm: the p of the norm of a difference of points."""

    norm: float


class Sphere(Space):
    """d(a, b) = |u(a) - u(b)|_2 with u = f / |f|, from 0 to 2."""

    norm = 2.0

    def __init__(self, dimension: int) -> None:
        super().__init__()

    def forward(self, f: Tensor) -> Tensor:
        return F.normalize(f)


class WeightedL1(Space):
    """d(a, b) = sum_k alpha_k |s_k(a) - s_k(b)| with s = sigmoid(f) (Koch et al. 2015).

    Deviation: alpha is a softplus, so that it is positive and d a distance; Koch's may be negative.
    """

    norm = 1.0

    def __init__(self, dimension: int) -> None:
        super().__init__()
        # so that distances of random images are about 2 at first
        self.weight = nn.Parameter(torch.full((dimension,), 8 / dimension).expm1().log())

    def forward(self, f: Tensor) -> Tensor:
        return F.softplus(self.weight) * f.sigmoid()


class Whitened(Space):
    """d(a, b) = |u(a) - u(b)|_2 with u = A (f - m) / |A (f - m)|, where A and m have a closed form (see `fisher`)."""

    norm = 2.0
    center: Tensor
    factor: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(dimension))
        self.register_buffer("factor", torch.eye(dimension))

    def forward(self, f: Tensor) -> Tensor:
        return F.normalize((f - self.center) @ self.factor.T)


def pairwise(points: Tensor, norm: float) -> Tensor:
    """Distances (N, N) of all pairs of points (N, D), with finite gradients everywhere."""
    if norm == 1:
        return (points[:, None] - points[None]).abs().sum(2)
    squares = points.square().sum(1)
    return (squares[:, None] + squares[None] - 2 * points @ points.T).clamp_min(EPSILON).sqrt()


def mined(distances: Tensor, identities: Tensor) -> tuple[Tensor, Tensor]:
    """(distances of all positive pairs, distances of as many negative pairs) of a batch, each pair once.

    Positive pairs show one identity, negative pairs two. Half of the negative pairs are the hardest, which are nearest
    to each other, and half are spaced evenly over the others by their distance: the hardest alone let an embedding
    collapse, and easy ones alone have no gradient (Simo-Serra et al. 2015).
    """
    above = torch.ones_like(distances, dtype=torch.bool).triu(1)
    positive = identities[:, None] == identities[None]
    same, different = distances[above & positive], distances[above & ~positive].sort().values
    count = min(max(1, len(same)), len(different))
    hard = count // 2
    spread = torch.linspace(hard, len(different) - 1, count - hard, device=different.device).long()
    return same, torch.cat([different[:hard], different[spread]])


class Contrastive(nn.Module):
    """y d^2 + (1 - y) max(0, m - d)^2 (Hadsell et al. 2006), over mined pairs."""

    def __init__(self, dimension: int, classes: int, margin: float, scale: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, points: Tensor, identities: Tensor) -> Tensor:
        same, different = mined(pairwise(points, Sphere.norm), identities)
        return same.square().mean() + (self.margin - different).clamp_min(0).square().mean()


class CrossEntropy(nn.Module):
    """-log sigmoid(b - d) for y = 1 and -log sigmoid(d - b) for y = 0 (Koch et al. 2015), over mined pairs."""

    def __init__(self, dimension: int, classes: int, margin: float, scale: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(2.0))

    def forward(self, points: Tensor, identities: Tensor) -> Tensor:
        same, different = mined(pairwise(points, WeightedL1.norm), identities)
        return F.softplus(same - self.bias).mean() + F.softplus(self.bias - different).mean()


class Triplet(nn.Module):
    """max(0, m + max_p d(a, p) - min_n d(a, n)) for each anchor a of a batch (batch hard, Hermans et al. 2017)."""

    def __init__(self, dimension: int, classes: int, margin: float, scale: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, points: Tensor, identities: Tensor) -> Tensor:
        distances = pairwise(points, Sphere.norm)
        positive = identities[:, None] == identities[None]
        farthest = distances.masked_fill(~positive, 0).amax(1)
        nearest = distances.masked_fill(positive, float("inf")).amin(1)
        return (self.margin + farthest - nearest).clamp_min(0).mean()


class Softmax(nn.Module):
    """-log softmax_c(-s d(x, w_c)^2 / 2)[identity] with a learned point w_c, the proxy, for each training identity.

    On the sphere -d^2 / 2 = cos - 1: the normalized softmax (Wang et al. 2017), with the additive margin m subtracted
    from the cosine of the true identity (CosFace, Wang et al. 2018).
    """

    def __init__(self, dimension: int, classes: int, margin: float, scale: float) -> None:
        super().__init__()
        self.margin, self.scale = margin, scale
        self.proxies = nn.Parameter(torch.randn(classes, dimension))

    def forward(self, points: Tensor, identities: Tensor) -> Tensor:
        cosines = points @ F.normalize(self.proxies).T  # (N, classes)
        cosines = cosines - self.margin * F.one_hot(identities, len(self.proxies))
        return F.cross_entropy(self.scale * cosines, identities)


# name: (the space, the loss in it)
LOSSES: dict[str, tuple[type[Space], Callable[..., nn.Module]]] = {
    "softmax": (Sphere, Softmax),
    "triplet": (Sphere, Triplet),
    "contrastive": (Sphere, Contrastive),
    "weighted-l1": (WeightedL1, CrossEntropy),
}

"""Verification metrics: the ROC curve of distances, equal error rate, AUC, thresholds, and Platt scaling.

A pair of images is accepted as one identity where its distance is at most the threshold. False accepts are accepted
pairs of different identities, false rejects are rejected pairs of one identity. Everything is computed in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcli.errors import DataError


class Roc:
    """The ROC curve of distances of pairs of one identity (S,) and of different ones (D,). DataError without both."""

    def __init__(self, same: Tensor, different: Tensor) -> None:
        if not len(same) or not len(different):
            kind = "of the same identity" if not len(same) else "of different identities"
            raise DataError(f"no two images {kind} to compare")
        self.same, self.different = same.double().sort().values, different.double().sort().values

    def accepted(self, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """(false accept rates, true accept rates) at these thresholds."""
        false, true = (
            torch.searchsorted(side, thresholds.double(), right=True).double() / len(side)
            for side in (self.different, self.same)
        )
        return false, true

    @property
    def auc(self) -> float:
        """The area under the curve: how often a pair of one identity is nearer than one of two; ties count half."""
        nearer = torch.searchsorted(self.different, self.same, right=True)
        at_most = torch.searchsorted(self.different, self.same, right=False)
        return 1 - ((nearer + at_most).double().mean() / 2 / len(self.different)).item()

    def equal_error(self) -> tuple[float, float]:
        """(equal error rate, threshold), where the false accept rate equals the false reject rate.

        Both rates are step functions; where they do not meet, the mean of both at the threshold where they are nearest.
        """
        thresholds = torch.cat([self.same, self.different]).unique()
        false, true = self.accepted(thresholds)
        at = int((false - (1 - true)).abs().argmin())
        following = thresholds[min(at + 1, len(thresholds) - 1)]
        return ((false[at] + 1 - true[at]) / 2).item(), ((thresholds[at] + following) / 2).item()

    def at_false_accept(self, rate: float) -> float:
        """The threshold whose false accept rate is this one, or the next smaller rate that occurs.

        It lies half-way between the last distance, of either kind, that is accepted and the first false accept beyond.
        """
        one_too_many = self._one_too_many(rate)
        if one_too_many is None:
            return max(self.same[-1], self.different[-1]).item()
        if one_too_many == 0:
            return -1.0  # nothing may be accepted, not even equal points
        below = [int(torch.searchsorted(side, one_too_many, right=False)) for side in (self.same, self.different)]
        last = max(side[n - 1].item() if n else 0.0 for side, n in zip((self.same, self.different), below, strict=True))
        return (last + one_too_many.item()) / 2

    def true_accept(self, rate: float) -> float:
        """The largest true accept rate whose false accept rate is at most `rate`."""
        one_too_many = self._one_too_many(rate)
        if one_too_many is None:
            return 1.0
        return int(torch.searchsorted(self.same, one_too_many, right=False)) / len(self.same)

    def _one_too_many(self, rate: float) -> Tensor | None:
        """The smallest distance that must be rejected for a false accept rate up to `rate`; None if there is none."""
        allowed = math.floor(rate * len(self.different) + 1e-9)
        return self.different[allowed] if allowed < len(self.different) else None

    def points(self, count: int = 100) -> dict[str, list[float]]:
        """The curve at `count` thresholds, spaced logarithmically by their false accept rate."""
        rates = torch.logspace(-4, 0, count, dtype=torch.float64)
        thresholds = torch.tensor([self.at_false_accept(rate) for rate in rates.tolist()], dtype=torch.float64)
        false, true = self.accepted(thresholds)
        return {"threshold": thresholds.tolist(), "false_accept": false.tolist(), "true_accept": true.tolist()}


@dataclass(frozen=True)
class Logistic:
    """Platt scaling: the probability that a pair shows one identity, sigmoid(offset - slope * distance).

    It assumes that half of all pairs show one identity, since the fraction in use is not known.
    """

    slope: float
    offset: float

    def __call__(self, distances: Tensor) -> Tensor:
        return (self.offset - self.slope * distances.double()).sigmoid()


def platt(roc: Roc, steps: int = 50) -> Logistic:
    """The slope and offset of maximum likelihood (Platt 1999), by Newton's method; both kinds of pairs weigh the same.

    The targets are Platt's, (n + 1) / (n + 2) and 1 / (m + 2) for n pairs of one identity and m of two, so that the
    slope stays finite for pairs that are separated without error.
    """
    x = torch.cat([roc.same, roc.different])
    n, m = len(roc.same), len(roc.different)
    target = torch.cat([torch.full((n,), (n + 1) / (n + 2)), torch.full((m,), 1 / (m + 2))]).double()
    weight = torch.cat([torch.full((n,), 0.5 / n), torch.full((m,), 0.5 / m)]).double()
    center = (roc.same.mean() + roc.different.mean()) / 2
    scale = x.std(correction=0).clamp_min(1e-12)
    columns = torch.stack([-(x - center) / scale, torch.ones_like(x)], 1)  # (pairs, 2)

    def loss(theta: Tensor) -> Tensor:
        return (
            weight * torch.nn.functional.binary_cross_entropy_with_logits(columns @ theta, target, reduction="none")
        ).sum()

    theta = torch.zeros(2, dtype=torch.float64)
    for _ in range(steps):
        p = (columns @ theta).sigmoid()
        gradient = columns.T @ (weight * (p - target))
        hessian = (columns * (weight * p * (1 - p))[:, None]).T @ columns + 1e-9 * torch.eye(2, dtype=torch.float64)
        change = torch.linalg.solve(hessian, gradient)
        while loss(theta - change) > loss(theta) and change.abs().max() > 1e-12:
            change = change / 2
        theta = theta - change
        if change.abs().max() < 1e-10:
            break
    slope = theta[0] / scale
    return Logistic(slope.item(), (theta[1] + slope * center).item())

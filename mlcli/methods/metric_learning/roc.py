"""Verification figures: the ROC of distances, equal error rate, area, thresholds, and distance -> probability.

Two images are called the same where their distance is at most the threshold. False accepts are pairs of different
identities called the same, false rejects pairs of one identity called different. All in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcli.errors import DataError


class Roc:
    """The curve of the distances of pairs of one identity (S,) and of different ones (D,). DataError for none."""

    def __init__(self, same: Tensor, different: Tensor):
        if not len(same) or not len(different):
            kind = "of the same identity" if not len(same) else "of different identities"
            raise DataError(f"no two images {kind} to compare")
        self.same, self.different = same.double().sort().values, different.double().sort().values

    def accepted(self, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """(false accept rates, true accept rates) at these thresholds."""
        thresholds = thresholds.double()
        return tuple(
            torch.searchsorted(side, thresholds, right=True).double() / len(side)
            for side in (self.different, self.same)
        )

    @property
    def auc(self) -> float:
        """The area: how often a pair of one identity is nearer than one of two; ties count half (Mann & Whitney)."""
        nearer = torch.searchsorted(self.different, self.same, right=True)
        at_most = torch.searchsorted(self.different, self.same, right=False)
        return 1 - ((nearer + at_most).double().mean() / 2 / len(self.different)).item()

    def equal_error(self) -> tuple[float, float]:
        """(rate, threshold) where as large a share of the different is accepted as of the same is rejected.

        Both are steps; where they do not meet, the mean of the two rates at the threshold where they are nearest.
        """
        thresholds = torch.cat([self.same, self.different]).unique()
        false, true = self.accepted(thresholds)
        at = int((false - (1 - true)).abs().argmin())
        following = thresholds[min(at + 1, len(thresholds) - 1)]
        return ((false[at] + 1 - true[at]) / 2).item(), ((thresholds[at] + following) / 2).item()

    def at_false_accept(self, rate: float) -> float:
        """The threshold at which so large a share of the different is accepted, or the next less that there is.

        Half-way from the last distance, of either kind, that may be accepted to the first that would be one too many.
        """
        one_too_many = self._one_too_many(rate)
        if one_too_many is None:
            return max(self.same[-1], self.different[-1]).item()
        if one_too_many == 0:
            return -1.0  # nothing may be accepted, equal points included
        below = [int(torch.searchsorted(side, one_too_many, right=False)) for side in (self.same, self.different)]
        last = max(side[n - 1].item() if n else 0.0 for side, n in zip((self.same, self.different), below, strict=True))
        return (last + one_too_many.item()) / 2

    def true_accept(self, rate: float) -> float:
        """The largest share of the same that is accepted while at most so many of the different are."""
        one_too_many = self._one_too_many(rate)
        if one_too_many is None:
            return 1.0
        return int(torch.searchsorted(self.same, one_too_many, right=False)) / len(self.same)

    def _one_too_many(self, rate: float) -> Tensor | None:
        """The least distance that must not be accepted if at most this share of the different is; None for none."""
        allowed = math.floor(rate * len(self.different) + 1e-9)
        return self.different[allowed] if allowed < len(self.different) else None

    def points(self, count: int = 100) -> dict[str, list[float]]:
        """The curve at so many thresholds, more of them where few of the different are accepted."""
        shares = torch.logspace(-4, 0, count, dtype=torch.float64)
        thresholds = torch.tensor([self.at_false_accept(share) for share in shares.tolist()], dtype=torch.float64)
        false, true = self.accepted(thresholds)
        return {"threshold": thresholds.tolist(), "false_accept": false.tolist(), "true_accept": true.tolist()}


@dataclass(frozen=True)
class Logistic:
    """Platt's calibration: the probability that a pair is of one identity, sigmoid(offset - slope * distance).

    As if half of all pairs were: how many are in use, the calibration cannot know.
    """

    slope: float
    offset: float

    def __call__(self, distances: Tensor) -> Tensor:
        return (self.offset - self.slope * distances.double()).sigmoid()


def platt(roc: Roc, steps: int = 50) -> Logistic:
    """The most likely slope and offset (Platt 1999), both kinds of pairs weighing the same, by Newton's method.

    The targets are Platt's, (n + 1) / (n + 2) and 1 / (n + 2), so that pairs without an error give no infinite slope.
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

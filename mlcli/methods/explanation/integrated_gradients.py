"""Integrated gradients (Sundararajan et al. 2017): gradients along a straight path, from a baseline to the image.

    attribution_i = (x_i - b_i) * integral over t from 0 to 1 of dF(b + t (x - b)) / dx_i

Completeness: the attributions add up to F(x) - F(b). Along the path the values of F are known at every point where its
gradient is, so that the error is known of every part of the path: of the part from s to t it is

    F(t) - F(s) - (t - s) / 2 * (F'(s) + F'(t)),

F' the derivative along the path. The parts with the largest errors are halved until the whole error is small. A network
of ReLUs bends at few points of the path, and there the points gather.

Deviation: the trapezoidal rule on a path that is refined where it is needed. A given number of steps is that of
Gauss-Legendre quadrature instead, as in captum.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import TOLERANCE, Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target
from mlcli.methods.synthesis.paired_degradations import blur

FIRST = 9  # points of the path at first
MOST = 513  # points of the path at most
BLUR = 1 / 16  # standard deviation of the blurred baseline, as a fraction of the image's side


def integrated_gradients(
    scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining, given: Tensor | None = None
) -> list[Attribution]:
    """The attribution (C, H, W) of each image, with `completeness`: its sum beside the difference that it should be.

    given: a normalized baseline (C, H, W), in place of the one that the hyperparameters name.
    """
    found = []
    for image, target in zip(images, targets, strict=True):
        start = baseline(scorer, image, config.baseline) if given is None else given.to(image.device)
        path = Path(scorer, start, image, target)
        if config.path_steps is not None:
            values, difference = path.by_gauss_legendre(config.path_steps), path.difference()
        else:
            values, difference = path.refined()
        error = values.sum().item() - difference
        found.append(
            Attribution(
                values,
                {
                    "completeness": {
                        "sum": values.sum().item(),
                        "difference": difference,
                        "error": abs(error) / abs(difference) if difference else None,
                        "points": path.points,
                    }
                },
            )
        )
    return found


def baseline(scorer: Scorer, image: Tensor, name: str) -> Tensor:
    """A normalized image (C, H, W) without what is to be explained: black, the image blurred, or the mean color."""
    if name == "mean":
        return torch.zeros_like(image)
    if name == "blurred":
        return blur(image, BLUR * max(image.shape[1:]))
    (black,) = scorer.model.preprocessing.normalize(torch.zeros_like(image)[None])
    return black


class Path:
    """The straight path from a baseline to an image (C, H, W). points: how many of its gradients were computed."""

    def __init__(self, scorer: Scorer, start: Tensor, image: Tensor, target: Target) -> None:
        self.scorer, self.start, self.target = scorer, start, target
        self.along = image - start
        self.points = 0

    def gradients(self, at: Sequence[float]) -> tuple[Tensor, Tensor]:
        """(the values (n,) float64, their gradients (n, C, H, W)) at these points of the path, 0 to 1."""
        self.points += len(at)
        t = torch.tensor(at, dtype=torch.float32, device=self.start.device)[:, None, None, None]
        values, gradients = self.scorer.gradients(self.start + t * self.along, [self.target] * len(at))
        return values.double(), gradients

    def difference(self) -> float:
        """F(image) - F(baseline)."""
        ends = torch.stack([self.start, self.start + self.along])
        first, last = self.scorer.values(ends, [self.target] * 2).double().tolist()
        return last - first

    def by_gauss_legendre(self, steps: int) -> Tensor:
        """The attribution (C, H, W) by so many gradients, at points and with weights that are best for polynomials."""
        points, weights = np.polynomial.legendre.leggauss(steps)
        total = torch.zeros_like(self.along)
        for first in range(0, steps, self.scorer.chunk):
            part = slice(first, first + self.scorer.chunk)
            _, gradients = self.gradients(((1 + points[part]) / 2).tolist())
            factors = torch.tensor(weights[part] / 2, dtype=gradients.dtype, device=total.device)
            total += torch.tensordot(factors, gradients, 1)
        return total * self.along

    def refined(self) -> tuple[Tensor, float]:
        """(the attribution (C, H, W), the difference that it adds up to within TOLERANCE or by MOST points)."""
        at = np.linspace(0, 1, FIRST).tolist()
        values, gradients = self.gradients(at)
        known = {t: (value, gradient) for t, value, gradient in zip(at, values.tolist(), gradients, strict=True)}
        slopes = {t: (gradient * self.along).double().sum().item() for t, (_, gradient) in known.items()}
        while True:
            at = sorted(known)
            errors = np.array(
                [
                    known[b][0] - known[a][0] - (b - a) / 2 * (slopes[a] + slopes[b])
                    for a, b in zip(at, at[1:], strict=False)
                ]
            )
            difference = known[1.0][0] - known[0.0][0]
            if abs(errors.sum()) <= TOLERANCE * abs(difference) or len(at) >= MOST:
                break
            count = min(max(4, len(errors) // 8), self.scorer.chunk, MOST - len(at))
            worst = np.argsort(-np.abs(errors), kind="stable")[:count]
            new = sorted((at[i] + at[i + 1]) / 2 for i in worst.tolist())
            values, gradients = self.gradients(new)
            for t, value, gradient in zip(new, values.tolist(), gradients, strict=True):
                known[t] = value, gradient
                slopes[t] = (gradient * self.along).double().sum().item()
        weights = np.zeros(len(at))
        steps = np.diff(at) / 2
        weights[:-1] += steps
        weights[1:] += steps
        total = torch.zeros_like(self.along)
        for weight, t in zip(weights.tolist(), at, strict=True):
            total += weight * known[t][1]
        return total * self.along, difference

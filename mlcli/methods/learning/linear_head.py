"""Multinomial logistic regression with an L2 penalty on features that stay fixed: the last layer of a network, solved.

With x_i the standardized features of image i, y_i its class, s_i its weight (sum 1) and theta = (W, b) the layer,

    L(theta) = - sum_i s_i log softmax(W x_i + b)[y_i] + l2 / 2 |W|^2.

L is convex, so the layer is a function of the data and of l2 alone: no rate, no schedule, no seed. L-BFGS finds it,
with a line search under the strong Wolfe conditions (Nocedal & Wright 2006, algorithms 7.5 and 3.5) in float64. l2 is
the one whose layers give the least cross-entropy on folds that they have not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.runtime.random_streams import rng

L2 = tuple(10.0**power for power in range(1, -6, -1))  # from the strongest, so that each solution begins the next
ITERATIONS, TOLERANCE = 500, 1e-6


@dataclass(frozen=True)
class LinearClassifier:
    """logits = W x + b of features as they are, not standardized. weight: (C, D), bias: (C,), float64."""

    weight: Tensor
    bias: Tensor
    l2: float

    def probabilities(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, C), float64."""
        return self.log_probabilities(features).exp()

    def log_probabilities(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, C), float64."""
        return (features.double() @ self.weight.T + self.bias).log_softmax(1)


@dataclass(frozen=True)
class Problem:
    """Labeled features. x: (N, V, D), V views of each image, the image as it is first; y: (N,) below `classes`.

    balanced: each class weighs as much as any other, however many images it has.
    """

    x: Tensor
    y: Tensor
    classes: int
    balanced: bool = False

    def part(self, chosen: Tensor) -> "Problem":
        """The problem of some of the images, by their numbers or by a mask."""
        return Problem(self.x[chosen], self.y[chosen], self.classes, self.balanced)

    def weights(self) -> Tensor:
        """(N,), sum 1."""
        counts = self.y.bincount(minlength=self.classes).double()
        share = 1 / (counts > 0).sum() / counts if self.balanced else (1 / counts.sum()).expand(self.classes)
        return share[self.y]


def solve(problem: Problem, l2s: Sequence[float]) -> list[LinearClassifier]:
    """The minimizer of L for each of these l2, in this order; every view of an image has an equal part of its weight.

    Each begins where the one before ended, which saves steps and changes no result beyond the tolerance (no entry of
    the gradient over 1e-6).
    """
    (_, views, d), classes = problem.x.shape, problem.classes
    x = problem.x.double().flatten(0, 1)  # (N V, D)
    y, s = (values.repeat_interleave(views) for values in (problem.y, problem.weights() / views))
    mean, deviation = x.mean(0), x.std(0, correction=0)
    scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)  # what never varies says nothing
    x = (x - mean) * scale
    theta = torch.zeros(classes, d + 1, dtype=torch.float64, requires_grad=True)  # W and b side by side
    found = []
    for l2 in l2s:
        optimizer = torch.optim.LBFGS(
            [theta], max_iter=ITERATIONS, tolerance_grad=TOLERANCE, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def loss(optimizer=optimizer, l2=l2) -> Tensor:
            optimizer.zero_grad()
            weight, bias = theta[:, :-1], theta[:, -1]
            logits = torch.addmm(bias, x, weight.T)  # (N V, C)
            value = (s * F.cross_entropy(logits, y, reduction="none")).sum() + l2 / 2 * weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        solution = theta.detach().clone()
        weight = solution[:, :-1] * scale
        found.append(LinearClassifier(weight, solution[:, -1] - weight @ mean, l2))
    return found


def folds(y: Tensor, count: int, seed: int) -> Tensor:
    """(N,) the fold, 0 to count - 1, of each image: classes are spread evenly, by the seed.

    -1 for the only image of a class: were it held out, nothing would be known of its class.
    """
    result = torch.full_like(y, -1)
    taken = 0
    for label in y.unique().tolist():
        members = (y == label).nonzero()[:, 0]
        if len(members) > 1:
            order = torch.randperm(len(members), generator=rng(seed, "linear-head/folds", label))
            result[members[order]] = (torch.arange(len(members)) + taken) % count
            taken += len(members)  # so that folds have as many images as each other
    return result


def held_out_losses(problem: Problem, fold: Tensor, l2s: Sequence[float] = L2) -> Tensor:
    """(len(l2s),): for each l2 the cross-entropy that layers fitted without a fold have on it, summed over the folds.

    fold: (N,), of `folds`; the images of fold -1 always learn.
    """
    total = torch.zeros(len(l2s), dtype=torch.float64)
    for held in fold[fold >= 0].unique().tolist():
        tested = problem.part(fold == held)
        # the held-out image as it is, and in the weights of the whole problem
        score = partial(_cross_entropy, tested.x[:, 0], tested.y, problem.weights()[fold == held])
        total += torch.stack([score(layer) for layer in solve(problem.part(fold != held), l2s)])
    return total


def choose_l2(problem: Problem, fold: Tensor, l2s: Sequence[float] = L2) -> float:
    """The l2 with the least of `held_out_losses`, the greatest where nothing is held out."""
    return l2s[int(held_out_losses(problem, fold, l2s).argmin())]


def _cross_entropy(x: Tensor, y: Tensor, weights: Tensor, layer: LinearClassifier) -> Tensor:
    return (weights * F.nll_loss(layer.log_probabilities(x), y, reduction="none")).sum()


def fit(problem: Problem, fold: Tensor) -> LinearClassifier:
    """The layer of all images, its l2 chosen by these folds."""
    return solve(problem, [choose_l2(problem, fold)])[0]


def held_out(problem: Problem, fold: Tensor) -> Tensor:
    """(N, C) probabilities of each image by the layer that was fitted without its fold; NaN for fold -1.

    l2 is chosen for each layer anew, by the other folds, or by new ones where there is one other alone: the estimate
    has seen nothing of what it is tested on.
    """
    result = torch.full((len(problem.y), problem.classes), torch.nan, dtype=torch.float64)
    for held in fold[fold >= 0].unique().tolist():
        rest, tested = fold != held, fold == held
        inner = fold[rest]
        if len(inner[inner >= 0].unique()) < 2:  # a single one cannot be held out: nothing would be left
            inner = folds(problem.y[rest], 2, int(held))
        result[tested] = fit(problem.part(rest), inner).probabilities(problem.x[tested, 0])
    return result

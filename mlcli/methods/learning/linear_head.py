"""Multinomial logistic regression with an L2 penalty on fixed features: the exact solution of a network's last layer.

With x_i the standardized features of image i, y_i its class, s_i its weight (sum 1) and theta = (W, b) the layer,

    L(theta) = - sum_i s_i log softmax(W x_i + b)[y_i] + l2 / 2 |W|^2.

L is convex, so the solution depends on the data and on l2 alone, and not on a learning rate, a schedule or a seed.
L-BFGS finds it in float64, with a line search under the strong Wolfe conditions (Nocedal & Wright 2006, algorithms 7.5
and 3.5). l2 is chosen by cross-validation: it minimizes the cross-entropy on held-out folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import LBFGS

L2 = tuple(10.0**power for power in range(1, -6, -1))  # strongest first, since each solution is the start of the next
ITERATIONS, TOLERANCE = 500, 1e-6


@dataclass(frozen=True)
class LinearClassifier:
    """logits = W x + b, with features x that are not standardized. weight: (C, D), bias: (C,), float64."""

    weight: Tensor
    bias: Tensor
    l2: float

    def probabilities(self, features: Tensor) -> Tensor:
        """Probabilities (N, C), float64, of features (N, D)."""
        return self.log_probabilities(features).exp()

    def log_probabilities(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C), float64, of features (N, D)."""
        return (features.double() @ self.weight.T + self.bias).log_softmax(1)


@dataclass(frozen=True)
class Problem:
    """Labeled features of N images.

    x: (N, V, D), features of V views of each image, the original image first. y: (N,), labels from 0 to classes - 1.
    balanced: whether all classes have the same weight, however many images they have.
    """

    x: Tensor
    y: Tensor
    classes: int
    balanced: bool = False

    def part(self, chosen: Tensor) -> "Problem":
        """The problem of some of the images, chosen by their indices or by a mask."""
        return Problem(self.x[chosen], self.y[chosen], self.classes, self.balanced)

    def weights(self) -> Tensor:
        """Weight of each image, (N,), sum 1."""
        counts = self.y.bincount(minlength=self.classes).double()
        weight = 1 / (counts > 0).sum() / counts if self.balanced else (1 / counts.sum()).expand(self.classes)
        return weight[self.y]


def solve(problem: Problem, l2s: Sequence[float]) -> list[LinearClassifier]:
    """The minimizer of L for each of these l2, in this order. The views of an image share its weight equally.

    Each minimization starts from the solution before, which saves steps and changes no result beyond the tolerance (all
    entries of the gradient at most 1e-6).
    """
    (_, views, d), classes = problem.x.shape, problem.classes
    x = problem.x.double().flatten(0, 1)  # (N V, D)
    y, s = (values.repeat_interleave(views) for values in (problem.y, problem.weights() / views))
    mean, deviation = x.mean(0), x.std(0, correction=0)
    scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)  # constant features are ignored
    x = (x - mean) * scale
    theta = torch.zeros(classes, d + 1, dtype=torch.float64, requires_grad=True)  # W and b side by side
    found = []
    for l2 in l2s:
        optimizer = LBFGS(
            [theta], max_iter=ITERATIONS, tolerance_grad=TOLERANCE, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def loss(optimizer: torch.optim.Optimizer = optimizer, l2: float = l2) -> Tensor:
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
    """The fold of each image, (N,), from 0 to count - 1, with each class spread evenly by the seed.

    -1 for the only image of a class, which is never held out, since its class would have no other.
    """
    result = torch.full_like(y, -1)
    taken = 0
    for label in y.unique().tolist():
        members = (y == label).nonzero()[:, 0]
        if len(members) > 1:
            order = torch.randperm(len(members), generator=rng(seed, "linear-head/folds", label))
            result[members[order]] = (torch.arange(len(members)) + taken) % count
            taken += len(members)  # so that the folds are of equal size
    return result


def held_out_losses(problem: Problem, fold: Tensor, l2s: Sequence[float] = L2) -> Tensor:
    """Cross-entropy on held-out folds for each l2, (len(l2s),), summed over the folds.

    fold: (N,), as `folds` returns it; images of fold -1 are always in the training set.
    """
    total = torch.zeros(len(l2s), dtype=torch.float64)
    for held in fold[fold >= 0].unique().tolist():
        tested = problem.part(fold == held)
        # Held-out images count as they are, without their other views, and with the weights of the whole problem
        score = partial(_cross_entropy, tested.x[:, 0], tested.y, problem.weights()[fold == held])
        total += torch.stack([score(layer) for layer in solve(problem.part(fold != held), l2s)])
    return total


def choose_l2(problem: Problem, fold: Tensor, l2s: Sequence[float] = L2) -> float:
    """The l2 with the least held-out loss; the greatest l2 where nothing is held out."""
    return l2s[int(held_out_losses(problem, fold, l2s).argmin())]


def _cross_entropy(x: Tensor, y: Tensor, weights: Tensor, layer: LinearClassifier) -> Tensor:
    return (weights * F.nll_loss(layer.log_probabilities(x), y, reduction="none")).sum()


def fit(problem: Problem, fold: Tensor) -> LinearClassifier:
    """The layer fitted to all images, with l2 chosen by these folds."""
    return solve(problem, [choose_l2(problem, fold)])[0]


def held_out(problem: Problem, fold: Tensor) -> Tensor:
    """Probabilities (N, C) of each image by the layer that was fitted without its fold; NaN for fold -1.

    l2 is chosen for each layer by nested cross-validation: by the other folds, or by new folds where there is only one
    other. So the held-out images influence nothing that they are tested with.
    """
    result = torch.full((len(problem.y), problem.classes), torch.nan, dtype=torch.float64)
    for held in fold[fold >= 0].unique().tolist():
        rest, tested = fold != held, fold == held
        inner = fold[rest]
        if len(inner[inner >= 0].unique()) < 2:  # a single fold cannot be held out, since nothing would be left
            inner = folds(problem.y[rest], 2, int(held))
        result[tested] = fit(problem.part(rest), inner).probabilities(problem.x[tested, 0])
    return result

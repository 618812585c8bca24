"""How far estimates of class frequencies are from the truth, on synthetic images whose frequencies are known.

    python -m tests.benchmarks.label_shift [--seeds 5] [--steps 400]

Ten classes are normal distributions in eight dimensions, and a small network learns them from 1,000 points, in which
all are equally frequent. 1,000 others are the target: with equal frequencies, with five classes of 2 % and five of
18 %, or with frequencies of a Dirichlet distribution; as they are, or shifted, so that classes also look different (a
domain gap). Prints the mean total variation distance from the truth, for counts of the predictions, for expectation
maximization (Saerens et al. 2002) on the probabilities, on those calibrated by a temperature, and calibrated by a
temperature and a bias of each class (Alexandari et al. 2020), and for the confusion matrix on 500 held-out points
(BBSE, Lipton et al. 2018) of classes and of probabilities.
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.methods.evaluation import label_shift
from mlcli.training.optimizers import LBFGS, FusedAdam

CLASSES, DIMENSIONS = 10, 8
SHIFTS = ("none", "half of the classes rare", "Dirichlet")
GAPS = (0.0, 1.0)  # in standard deviations


def frequencies(shift: str, random: torch.Generator) -> Tensor:
    """The class frequencies of a target."""
    if shift == "none":
        return torch.full((CLASSES,), 1 / CLASSES, dtype=torch.float64)
    if shift == "Dirichlet":
        drawn = -torch.rand(CLASSES, generator=random, dtype=torch.float64).log()
        return drawn / drawn.sum()
    halves = torch.tensor([0.02] * 5 + [0.18] * 5, dtype=torch.float64)
    return halves[torch.randperm(CLASSES, generator=random)]


def draw(count: int, of: Tensor, means: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """(points (count, D), classes (count,)) with the class frequencies `of`."""
    labels = torch.multinomial(of, count, replacement=True, generator=random)
    return means[labels] + torch.randn(count, DIMENSIONS, generator=random), labels


def trained(x: Tensor, labels: Tensor, steps: int, seed: int) -> nn.Module:
    """A network with one hidden layer, trained with cross-entropy."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(DIMENSIONS, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    adam = FusedAdam(list(network.parameters()), 3e-3, (0.9, 0.999))
    for _ in range(steps):
        batch = torch.randint(0, len(x), (128,))
        adam.zero_grad()
        F.cross_entropy(network(x[batch]), labels[batch]).backward()
        adam.step()
    return network


def calibration(p: Tensor, labels: Tensor, biased: bool) -> Callable[[Tensor], Tensor]:
    """softmax(t log p + b) with the t, and the b of each class if `biased`, of least cross-entropy."""
    t = torch.ones(1, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(CLASSES, dtype=torch.float64, requires_grad=True)
    optimizer = LBFGS([t, b] if biased else [t], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(p.log() * t + b, labels)
        value.backward()
        return value

    optimizer.step(loss)
    return lambda other: (other.log() * t.detach() + b.detach()).softmax(1)


def black_box(target: Tensor, held_out: Tensor, labels: Tensor, source: Tensor) -> Tensor:
    """BBSE: q = w source with C w = mu; C_ij how often i is predicted of j, mu_i how often i in the target."""
    confusion = held_out.T @ F.one_hot(labels, CLASSES).double() / len(labels)
    ratio = torch.linalg.lstsq(confusion, target.mean(0)[:, None], driver="gelsd").solution[:, 0]
    found = ratio.clamp(min=0) * source
    return found / found.sum()


def distances(seed: int, shift: str, gap: float, steps: int) -> dict[str, float]:
    """The total variation distance of each estimate from the truth, that of the source, and the accuracy."""
    random = torch.Generator().manual_seed(seed)
    means = torch.randn(CLASSES, DIMENSIONS, generator=random)
    equal = frequencies("none", random)
    of_target = frequencies(shift, random)
    x, labels = draw(1000, equal, means, random)
    held_out, held_out_labels = draw(500, equal, means, random)
    target, target_labels = draw(1000, of_target, means, random)
    network = trained(x, labels, steps, seed)
    with torch.no_grad():
        p, known = (
            network(each).double().softmax(1).clamp(min=1e-12) for each in (target + gap / DIMENSIONS**0.5, held_out)
        )
    source, true = (label_shift.frequencies(each, CLASSES) for each in (labels, target_labels))
    hard, hard_known = (F.one_hot(each.argmax(1), CLASSES).double() for each in (p, known))
    estimates = {
        "counts": hard.mean(0),
        "EM": label_shift.estimated(p, source),
        "EM, temperature": label_shift.estimated(calibration(known, held_out_labels, False)(p), source),
        "EM, temperature and bias": label_shift.estimated(calibration(known, held_out_labels, True)(p), source),
        "BBSE of classes": black_box(hard, hard_known, held_out_labels, source),
        "BBSE of probabilities": black_box(p, known, held_out_labels, source),
        "the source": source,
    }
    found = {name: label_shift.total_variation(estimate, true) for name, estimate in estimates.items()}
    return found | {"accuracy": (p.argmax(1) == target_labels).double().mean().item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400, help="of the network; many make it sure of what it predicts")
    arguments = parser.parse_args()
    for gap in GAPS:
        for shift in SHIFTS:
            runs = [distances(seed, shift, gap, arguments.steps) for seed in range(arguments.seeds)]
            means = {name: round(sum(run[name] for run in runs) / len(runs), 3) for name in runs[0]}
            print(f"gap {gap}, label shift {shift}: {means}", flush=True)


if __name__ == "__main__":
    main()

"""The evidence of an adaptation: scores on a labeled test set, their intervals and tests, what the translation flips.

A score is of one image: 1 or 0 for a class that is right or wrong, or the Dice coefficient of its mask. All rows of
a table are measured on the same images, so they are compared image by image.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mlcli.methods.evaluation.classification import wilson
from mlcli.runtime.random_streams import rng

METRICS = {"classify": "accuracy", "segment": "dice"}
RESAMPLES = 2000


def scores(called: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(N,) float64 in [0, 1].  called, labels: classes (N,) or masks (N, H, W)."""
    if labels.ndim == 1:
        return (called == labels).double()
    return mean_dice(dice(called, labels, classes))


def dice(called: Tensor, labels: Tensor, classes: int) -> Tensor:
    """2 |A n B| / (|A| + |B|) of masks (N, H, W): (N, classes - 1), class 0 being the background.

    NaN where a class is in neither.
    """
    columns = []
    for number in range(1, classes):
        a, b = (called == number).flatten(1), (labels == number).flatten(1)
        columns.append(2 * (a & b).sum(1).double() / (a.sum(1) + b.sum(1)))
    return torch.stack(columns, 1)


def mean_dice(of_classes: Tensor) -> Tensor:
    """(N,) of `dice` (N, classes - 1): the mean over the classes that are there, 1 where there are none."""
    return of_classes.nanmean(1).nan_to_num(1.0)


def per_class(called: Sequence[Tensor], labels: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """The mean over runs of the accuracy, or Dice, of each class that the labels hold."""
    result = {}
    if labels.ndim == 1:
        for number, name in enumerate(classes):
            if (own := labels == number).any():
                result[name] = sum((run[own] == number).double().mean().item() for run in called) / len(called)
        return result
    means = torch.stack([dice(run, labels, len(classes)).nanmean(0) for run in called]).mean(0)
    return {name: mean for name, mean in zip(classes[1:], means.tolist(), strict=True) if not math.isnan(mean)}


def figure(runs: Sequence[Tensor], task: str) -> dict:
    """mean, sd, interval and runs of the scores (N,) of each run.

    sd: of the means of the runs (None of one run). interval: 95 %, of the mean over the runs for other images, N of
    them: Wilson's of a share, for Dice the bootstrap's over images. More runs on the same images do not narrow it.
    """
    means = [run.mean().item() for run in runs]
    mean, count = sum(means) / len(means), len(runs[0])
    sd = math.sqrt(sum((m - mean) ** 2 for m in means) / (len(means) - 1)) if len(means) > 1 else None
    if task == "classify":
        interval = wilson(mean * count, count)
    else:
        interval = bootstrap(torch.stack(list(runs)).mean(0))
    return {"mean": mean, "sd": sd, "interval": list(interval), "runs": means}


def bootstrap(values: Tensor) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of values (N,) (Efron 1979)."""
    random = rng(0, "evaluation/bootstrap")
    means = torch.stack(
        [values[torch.randint(len(values), (len(values),), generator=random)].mean() for _ in range(RESAMPLES)]
    )
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high


def mcnemar(first: Tensor, second: Tensor) -> dict:
    """McNemar's exact test (1947) of two classifiers on the same images; scores (N,) of 0 and 1.

    Under the null hypothesis each image that one of them alone has right is a fair coin: two-sided binomial.
    """
    b, c = int((first > second).sum()), int((first < second).sum())
    n, tail, term = b + c, 0, 1
    for k in range(min(b, c) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    p = min(1.0, 2 * tail / 2**n) if n else 1.0
    return {"first_alone": b, "second_alone": c, "p": p}


def sign(first: Tensor, second: Tensor) -> dict:
    """The same test of Dice coefficients: by which of the two is larger."""
    return mcnemar((first > second).double(), (first < second).double())


def gap_closed(result: Mapping) -> float | None:
    """Which share of the gap between source only and trained on target the adaptation closes; None of no gap."""
    if "target_supervised" not in result:
        return None
    low, high = result["source_only"]["mean"], result["target_supervised"]["mean"]
    return (result["adapted"]["mean"] - low) / (high - low) if high > low else None


# ------------------------------------------------------------------------------------------------- guards


def collapse(before: Tensor, after: Tensor, source: Tensor) -> str:
    """Whether the answers for target images have fallen onto few classes.

    before, after: what both models call them, classes (N,) or masks.  source: the labels of the source, such too.
    Measured by exp(H) of the shares of the classes, their effective number: too few for what they were before, or for
    the classes of the source, where the source model's answers have themselves fallen onto few.
    """
    count = int(max(each.max() for each in (before, after, source))) + 1
    shares = [each.flatten().bincount(minlength=count).double() / each.numel() for each in (before, after, source)]
    was, now, known = (torch.exp(-torch.xlogy(share, share).sum()).item() for share in shares)
    if now < 0.6 * was or now <= 0.5 * known:
        return (
            f"the adapted model calls the target images by about {now:.1f} classes, before it was {was:.1f}, and the "
            f"source has {known:.1f} (one class alone now has {shares[1].max().item():.0%}): its predictions collapse; "
            "adapt for fewer --steps or with a lower --lr"
        )
    return ""


def worse(result: Mapping, metric: str) -> str:
    """Whether the adaptation has done harm."""
    before, after = result["source_only"]["mean"], result["adapted"]["mean"]
    if after < before:
        return f"the adapted model is worse than source only: {metric} {after:.2%} against {before:.2%}"
    return ""

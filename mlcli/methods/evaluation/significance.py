"""Scores of models on a labeled test set, with confidence intervals and significance tests, and warnings about them.

Each image has a score: 1 or 0 for a correct or wrong class, or the Dice coefficient of its mask. All models of a table
are tested on the same images, so they are compared image by image.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mlcli.methods.evaluation.classification import wilson
from mlcli.runtime.random_streams import rng

METRICS = {"classify": "accuracy", "segment": "dice"}
RESAMPLES = 2000


def scores(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The score of each image, (N,) float64 in [0, 1]. predicted, labels: classes (N,) or masks (N, H, W)."""
    if labels.ndim == 1:
        return (predicted == labels).double()
    return mean_dice(dice(predicted, labels, classes))


def dice(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Dice coefficients 2 |A ∩ B| / (|A| + |B|) of masks (N, H, W), (N, classes - 1); class 0 is the background.

    NaN where neither mask has the class.
    """
    columns = []
    for number in range(1, classes):
        a, b = (predicted == number).flatten(1), (labels == number).flatten(1)
        columns.append(2 * (a & b).sum(1).double() / (a.sum(1) + b.sum(1)))
    return torch.stack(columns, 1)


def mean_dice(of_classes: Tensor) -> Tensor:
    """Mean of the coefficients (N, classes - 1) of `dice` over the classes of each image, (N,); 1 without classes."""
    return of_classes.nanmean(1).nan_to_num(1.0)


def per_class(predicted: Sequence[Tensor], labels: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Mean over runs of the accuracy, or of the Dice coefficient, of each class in the labels.

    predicted: for each run, classes (N,) or masks (N, H, W).
    """
    result: dict[str, float] = {}
    if labels.ndim == 1:
        for number, name in enumerate(classes):
            if (own := labels == number).any():
                result[name] = sum((run[own] == number).double().mean().item() for run in predicted) / len(predicted)
        return result
    means = torch.stack([dice(run, labels, len(classes)).nanmean(0) for run in predicted]).mean(0)
    return {name: mean for name, mean in zip(classes[1:], means.tolist(), strict=True) if not math.isnan(mean)}


def figure(runs: Sequence[Tensor], task: str) -> dict[str, Any]:
    """Mean, standard deviation, interval and runs of scores. runs: the scores (N,) of each run on the same N images.

    sd: standard deviation of the means of the runs, None for a single run. interval: 95 % confidence interval of the
    mean over the runs with respect to the choice of the N images, Wilson's for accuracies, the bootstrap's for Dice
    coefficients. More runs on the same images do not make it narrower. runs: mean of each run.
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
    """95 % percentile bootstrap interval of the mean of values (N,) (Efron 1979)."""
    random = rng(0, "evaluation/bootstrap")
    means = torch.stack(
        [values[torch.randint(len(values), (len(values),), generator=random)].mean() for _ in range(RESAMPLES)]
    )
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high


def mcnemar(first: Tensor, second: Tensor) -> dict[str, int | float]:
    """McNemar's exact test (1947) of two classifiers on the same images, from their scores (N,) of 0 and 1.

    Under the null hypothesis, either classifier is equally likely to be the correct one on an image on which they
    differ. p is the two-sided binomial probability.
    """
    b, c = int((first > second).sum()), int((first < second).sum())
    n, tail, term = b + c, 0, 1
    for k in range(min(b, c) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    p = min(1.0, 2 * tail / 2**n) if n else 1.0
    return {"first_alone": b, "second_alone": c, "p": p}


def sign(first: Tensor, second: Tensor) -> dict[str, int | float]:
    """The sign test of Dice coefficients (N,): the same test, for which of the two is larger."""
    return mcnemar((first > second).double(), (first < second).double())


def gap_closed(result: Mapping[str, Any]) -> float | None:
    """Fraction of the gap between source only and supervised on the target that the adaptation closes.

    None where there is no gap.
    """
    if "target_supervised" not in result:
        return None
    low, high = result["source_only"]["mean"], result["target_supervised"]["mean"]
    return (result["adapted"]["mean"] - low) / (high - low) if high > low else None


# ----------------------------------------------------------------------------------------------- warnings


def collapse(before: Tensor, after: Tensor, source: Tensor) -> str:
    """A warning if the predictions for target images have collapsed to few classes; otherwise an empty string.

    before, after: predictions before and after the adaptation, classes (N,) or masks. source: labels of the source.
    The measure is the effective number of classes exp(H), with H the entropy of their frequencies. It is too small
    below 60 % of that before, and up to half of that of the source, since the source model may have collapsed already.
    """
    count = int(max(each.max() for each in (before, after, source))) + 1
    frequencies = [each.flatten().bincount(minlength=count).double() / each.numel() for each in (before, after, source)]
    was, now, known = (torch.exp(-torch.xlogy(each, each).sum()).item() for each in frequencies)
    if now < 0.6 * was or now <= 0.5 * known:
        return (
            f"the adapted model predicts about {now:.1f} classes for the target images, before it was {was:.1f}, and "
            f"the source has {known:.1f} (one class alone now has {frequencies[1].max().item():.0%}): its predictions "
            "collapse; adapt for fewer --steps or with a lower --lr"
        )
    return ""


def worse(result: Mapping[str, Any], metric: str) -> str:
    """A warning if the adapted model is worse than source only; otherwise an empty string."""
    before, after = result["source_only"]["mean"], result["adapted"]["mean"]
    if after < before:
        return f"the adapted model is worse than source only: {metric} {after:.2%} against {before:.2%}"
    return ""

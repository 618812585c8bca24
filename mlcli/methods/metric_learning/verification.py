"""Evaluation of a Siamese network: verification of pairs of images, and n-way k-shot classification."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlcli.errors import DataError
from mlcli.methods.evaluation.classification import wilson
from mlcli.methods.metric_learning.embedder import Siamese
from mlcli.methods.metric_learning.roc import Roc
from mlcli.runtime.random_streams import rng

MAX_PAIRS = 4_000_000  # pairs of different identities to compare; of more, a random part
RESAMPLES, RESAMPLED_PAIRS = 200, 300_000  # of the bootstrap, and pairs in each, at most
ENDS = torch.tensor([0.025, 0.975], dtype=torch.float64)  # quantiles of an interval
FALSE_ACCEPT_RATES = (0.1, 0.01, 0.001)  # at which true accept rates are reported


def require_pairs(identities: Tensor, where: object) -> None:
    """Raise DataError unless two images (N,) are of one identity, and two of different ones."""
    counts = identities.bincount()
    if (counts > 0).sum() < 2:
        raise DataError(f"{where}: readable images of fewer than two identities; there is nothing to tell apart")
    if counts.max() < 2:
        raise DataError(f"{where}: no two readable images of one identity; at least one identity needs two")


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, by their indices, with their distances. same: whether they show one identity."""

    first: Tensor  # (P,)
    second: Tensor
    distances: Tensor
    same: Tensor

    @property
    def roc(self) -> Roc:
        return Roc(self.distances[self.same], self.distances[~self.same])

    def part(self, chosen: Tensor) -> "Pairs":
        return Pairs(self.first[chosen], self.second[chosen], self.distances[chosen], self.same[chosen])


def all_pairs(siamese: Siamese, points: Tensor, identities: Tensor, seed: int, most: int = MAX_PAIRS) -> Pairs:
    """Every pair of points (N, D) with identities (N,) once; of different identities a random part, about `most`."""
    n = len(points)
    parts = []
    thinned = n * (n - 1) // 2 > most
    fraction = most / (n * (n - 1) // 2)
    random = rng(seed, "verification/pairs")
    for row in range(n - 1):
        same = identities[row + 1 :] == identities[row]
        kept = same | (torch.rand(len(same), generator=random) < fraction) if thinned else torch.ones_like(same)
        second = kept.nonzero()[:, 0] + row + 1
        distances = siamese.distances(points[row : row + 1], points[second])[0]
        parts.append((torch.full_like(second, row), second, distances, same[kept]))
    return Pairs(*map(torch.cat, zip(*parts, strict=True))) if parts else _none()


def different_pairs(identities: Tensor, most: int = MAX_PAIRS) -> int:
    """The number of pairs of different identities (N,) that `all_pairs` compares; approximate where it draws some."""
    n, counts = len(identities), identities.bincount()
    total = n * (n - 1) // 2
    different = total - int((counts * (counts - 1)).sum()) // 2
    return different if total <= most else round(different * most / total)


def _none() -> Pairs:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Pairs(nothing, nothing, torch.zeros(0), nothing.bool())


def intervals(pairs: Pairs, identities: Tensor, threshold: float, seed: int) -> dict[str, list[float]]:
    """95 % intervals by the bootstrap over identities, since pairs that share an identity are not independent.

    In each of 200 resamples identities are drawn with replacement, as many as there are, and a pair is weighted by how
    often its identities were drawn: once for a pair of one identity, the product of both for a pair of two. Where there
    are many pairs, a random part of them is used.
    """
    random = rng(seed, "verification/bootstrap")
    if len(pairs.same) > RESAMPLED_PAIRS:
        chance = torch.rand(len(pairs.same), generator=random)
        rare = pairs.same if pairs.same.sum() < RESAMPLED_PAIRS / 2 else torch.zeros_like(pairs.same)
        pairs = pairs.part(rare | (chance < RESAMPLED_PAIRS / len(pairs.same)))
    order = pairs.distances.sort()
    pairs = pairs.part(order.indices)
    accepted = int(torch.searchsorted(order.values.double(), threshold, right=True))
    count = int(identities.max()) + 1
    present = identities.unique()
    a, b = identities[pairs.first], identities[pairs.second]
    found = defaultdict(list)
    for _ in range(RESAMPLES):
        drawn = present[torch.randint(len(present), (len(present),), generator=random)].bincount(minlength=count)
        weight = torch.where(pairs.same, drawn[a], drawn[a] * drawn[b]).double()
        same, different = (weight * pairs.same).cumsum(0), (weight * ~pairs.same).cumsum(0)
        if not same[-1] or not different[-1]:
            continue
        true, false = same / same[-1], different / different[-1]
        at = int((false - (1 - true)).abs().argmin())
        t, f = (side[accepted - 1].item() if accepted else 0.0 for side in (true, false))
        found["eer"].append(((false[at] + 1 - true[at]) / 2).item())
        found["auc"].append(((true * weight * ~pairs.same).sum() / different[-1]).item())
        found["accuracy"].append((t + 1 - f) / 2)
        found["false_accept_rate"].append(f)
        found["true_accept_rate"].append(t)
        for rate in FALSE_ACCEPT_RATES:
            # the last pair up to which the false accept rate is at most this one
            last = int(torch.searchsorted(false, rate + 1e-12, right=True)) - 1
            found[f"true_accept_{rate}"].append(true[last].item() if last >= 0 else 0.0)
    return {name: torch.tensor(values, dtype=torch.float64).quantile(ENDS).tolist() for name, values in found.items()}


def evaluate(siamese: Siamese, points: Tensor, identities: Tensor, seed: int) -> dict[str, Any]:
    """Metrics over all pairs, with 95 % intervals: equal error rate, AUC, and the error rates at the stored threshold.

    accuracy: balanced accuracy, the mean of the true accept rate and the true reject rate.  true_accepts: for a few
    false accept rates the threshold that keeps them on these pairs, and the true accept rate there. Raises DataError
    where there is no pair of one identity, or none of two.
    """
    pairs = all_pairs(siamese, points, identities, seed)
    assert siamese.calibration is not None
    roc, threshold = pairs.roc, siamese.calibration.threshold
    within = intervals(pairs, identities, threshold, seed)
    false, true = (rate.item() for rate in roc.accepted(torch.tensor([threshold], dtype=torch.float64)))
    figures: dict[str, Any] = {
        "eer": roc.equal_error()[0],
        "auc": roc.auc,
        "threshold": threshold,
        "accuracy": (true + 1 - false) / 2,
        "false_accept_rate": false,
        "true_accept_rate": true,
    }
    figures |= {f"{name}_interval": within.get(name) for name in figures if name != "threshold"}
    figures["true_accepts"] = [
        {
            "false_accept": rate,
            "threshold": roc.at_false_accept(rate),
            "true_accept": roc.true_accept(rate),
            "interval": within.get(f"true_accept_{rate}"),
        }
        for rate in FALSE_ACCEPT_RATES
    ]
    return figures | {"pairs": {"same": len(roc.same), "different": len(roc.different)}}


def one_shot(
    siamese: Siamese,
    points: Tensor,
    identities: Tensor,
    groups: Sequence[str],
    *,
    way: int,
    shot: int,
    trials: int,
    seed: int,
) -> dict[str, Any] | None:
    """n-way k-shot classification: which of `way` identities a query image shows, given `shot` images of each.

    groups[i]: the group of identity i. In each trial `way` identities are drawn from one group, the groups in turn.
    Groups with fewer identities are left out; where all have fewer, `way` is lowered to the largest group's. The
    prediction is the identity with the smallest mean distance. As in Lake et al. 2015 the support images are the m-th
    images of their identities, for some m, and the query is the n-th of its own, n not among the m: where the n-th
    image of every identity was drawn by the n-th person, another person drew the supports. None where no group has two
    identities with `shot` + 1 images. interval: see `accuracy_interval`.
    """
    members = {identity: (identities == identity).nonzero()[:, 0] for identity in identities.unique().tolist()}
    by_group: dict[str, list[int]] = defaultdict(list)
    for identity, images in members.items():
        if len(images) > shot:
            by_group[groups[identity]].append(identity)
    way = min(way, max(map(len, by_group.values()), default=0))
    if way < 2:
        return None
    pools = [pool for _, pool in sorted(by_group.items()) if len(pool) >= way]
    correct, query_identities = [], []
    for trial in range(trials):
        random = rng(seed, "verification/trials", trial)
        pool = pools[trial % len(pools)]
        chosen = [pool[index] for index in torch.randperm(len(pool), generator=random)[:way].tolist()]
        ranks = torch.randperm(min(len(members[identity]) for identity in chosen), generator=random)
        supports = torch.stack([members[identity][ranks[:shot]] for identity in chosen])  # (way, shot)
        query = members[chosen[0]][ranks[shot]]
        distances = siamese.distances(points[query][None], points[supports.flatten()]).view(len(chosen), shot).mean(1)
        # A tie counts as wrong: the true identity comes first, so argmin would prefer it.
        correct.append(bool(distances[0] < distances[1:].min()))
        query_identities.append(chosen[0])
    return {
        "way": way,
        "shot": shot,
        "identities": sum(map(len, pools)),
        "accuracy": sum(correct) / trials,
        "interval": accuracy_interval(torch.tensor(correct), torch.tensor(query_identities), seed),
        "trials": trials,
    }


def accuracy_interval(correct: Tensor, identities: Tensor, seed: int) -> list[float]:
    """The 95 % interval of the accuracy of trials (T,), by the bootstrap over the identities of their queries (T,).

    Trials with one query identity are not independent of each other. Where all trials are correct, or none, resamples
    do not differ; then it is Wilson's interval, with one trial for each identity.
    """
    _, numbers, trials = identities.unique(return_inverse=True, return_counts=True)
    count = len(trials)
    accuracy = correct.double().mean().item()
    if accuracy in (0, 1):
        return list(wilson(round(accuracy * count), count))
    drawn = torch.randint(count, (RESAMPLES, count), generator=rng(seed, "verification/bootstrap"))
    found = torch.zeros(count, dtype=torch.float64).index_add_(0, numbers, correct.double())
    return (found[drawn].sum(1) / trials[drawn].sum(1)).quantile(ENDS).tolist()


def nearest_identities(
    distances: Tensor, identities: Sequence[int], k: int, threshold: float
) -> tuple[list[tuple[int, float]], int | None]:
    """([(identity, distance) of the k nearest, nearest first], the nearest identity if within the threshold, or None).

    distances: (G,) to the images of a gallery, inf for an image to be ignored. The distance of an identity is that of
    its nearest image.
    """
    least: dict[int, float] = {}
    for identity, distance in zip(identities, distances.tolist(), strict=True):
        least[identity] = min(distance, least.get(identity, float("inf")))
    ranked = sorted(((i, d) for i, d in least.items() if d < float("inf")), key=lambda pair: pair[1])[:k]
    return ranked, ranked[0][0] if ranked and ranked[0][1] <= threshold else None

"""What a Siamese run measures on its validation pairs in the end: rates, the ROC curve, histograms of distances."""

from collections.abc import Sequence
from typing import Any

import torch

from mlcli.methods.metric_learning.verification import Pairs

BINS = 40  # of the histograms
CURVE = 200  # points of the ROC curve


def results(pairs: Pairs, threshold: float, equal_error: float) -> dict[str, Any]:
    """The measurements at a threshold of the distance, for results.json.

    roc: rates at thresholds from the smallest to the largest. distances: the edges of BINS bins, and the number of
    pairs of the same and of different identities in each.
    """
    roc = pairs.roc
    false, true = (rate.item() for rate in roc.accepted(torch.tensor([threshold], dtype=torch.float64)))
    steps = torch.cat([roc.same, roc.different]).unique()
    chosen = torch.linspace(0, len(steps) - 1, min(CURVE, len(steps))).round().long()
    false_accepts, true_accepts = (rates.tolist() for rates in roc.accepted(steps[chosen]))
    largest = max(roc.same[-1].item(), roc.different[-1].item()) or 1.0
    edges = torch.linspace(0, largest, BINS + 1, dtype=torch.float64)
    same, different = (torch.histogram(side.cpu(), edges).hist.long().tolist() for side in (roc.same, roc.different))
    return {
        "equal_error_rate": equal_error,
        "auc": roc.auc,
        "threshold": threshold,
        "false_accept_rate": false,
        "true_accept_rate": true,
        "pairs": {"same": len(roc.same), "different": len(roc.different)},
        "roc": {"false_accept": _rounded(false_accepts), "true_accept": _rounded(true_accepts)},
        "distances": {"edges": _rounded(edges.tolist()), "same": same, "different": different},
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.5g}") for value in values]

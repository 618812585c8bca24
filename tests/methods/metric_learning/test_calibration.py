"""The hardest pairs of a validation set."""

import torch

from mlcli.methods.metric_learning.calibration import MOST_OF_ONE, SAMPLE_PAIRS, hardest
from mlcli.methods.metric_learning.verification import Pairs


def test_the_hardest_pairs_show_an_identity_at_most_twice():
    identities = torch.arange(40).repeat_interleave(4)
    first, second = torch.triu_indices(160, 160, 1)
    same = identities[first] == identities[second]
    # Identity 0 is the hardest in both ways: near to all others, and far from itself
    of_first = (identities[first] == 0) | (identities[second] == 0)
    distances = torch.where(same == of_first, 2.0, 1.0) + torch.linspace(0, 0.1, len(first))
    pairs = Pairs(first, second, distances, same)
    for kind in (False, True):
        chosen = hardest(pairs, identities, same=kind)
        assert len(chosen) == SAMPLE_PAIRS and (same[chosen] == kind).all()
        shown = torch.stack([identities[first[chosen]], identities[second[chosen]]])
        counts = torch.bincount((shown if not kind else shown[0]).flatten())
        assert counts.max() == counts[0] == MOST_OF_ONE
        ordered = distances[chosen] if not kind else -distances[chosen]
        assert (ordered.diff() >= 0).all(), "the hardest first"

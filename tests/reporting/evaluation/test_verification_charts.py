"""The charts of a verification, from what a Siamese run measures."""

import torch

from mlcli.methods.metric_learning import verification_results
from mlcli.methods.metric_learning.verification import Pairs
from mlcli.reporting.evaluation import verification_charts

SAME, DIFFERENT = torch.tensor([0.1, 0.2, 0.6]), torch.tensor([0.5, 0.8, 0.9, 1.0])


def measured():
    distances, index = torch.cat([SAME, DIFFERENT]), torch.arange(7)
    return verification_results.results(Pairs(index, index, distances, index < 3), 0.55, 0.25)


def test_the_roc_curve_has_axes_the_threshold_and_the_line_of_chance():
    chart = verification_charts.roc(measured())
    for words in ("false accept rate", "true accept rate", "by chance", "threshold 0.55", "this network"):
        assert f">{words}<" in chart.svg
    assert chart.captions == ["Area under the curve 0.9167; equal error rate 25.00%."]


def test_the_histograms_count_each_pair_once():
    found = measured()["distances"]
    assert sum(found["same"]) == 3 and sum(found["different"]) == 4
    assert found["different"][-1] == 1, "the largest distance is within the last bin"
    chart = verification_charts.distances(measured())
    for words in ("distance", "fraction of the pairs", "same", "different", "threshold 0.55"):
        assert f">{words}<" in chart.svg
    assert chart.captions == ["3 pairs of the same identity and 4 pairs of different identities."]


def test_the_outline_of_a_histogram_has_the_height_of_each_bin():
    assert verification_charts._steps([0, 1, 2], [0.25, 0.75]) == ([0, 0, 1, 1, 2, 2], [0, 0.25, 0.25, 0.75, 0.75, 0])

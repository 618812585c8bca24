import math

import pytest
import torch

from mlcli.errors import DataError
from mlcli.methods.metric_learning.roc import Roc, platt

# Pairs of one identity: 0.1 to 0.4 and one outlier; of two: from 0.35 on
ROC = Roc(torch.tensor([0.3, 0.1, 0.9, 0.2, 0.4]), torch.tensor([1.0, 0.35, 0.8, 0.7, 0.6, 0.95, 0.5, 1.2, 1.1, 1.3]))


def test_rates_count_what_is_at_most_the_threshold():
    false, true = ROC.accepted(torch.tensor([0.0, 0.1, 0.4, 0.5, 2.0], dtype=torch.float64).float())
    assert true.tolist() == pytest.approx([0, 0.2, 0.8, 0.8, 1]) and false.tolist() == pytest.approx(
        [0, 0, 0.1, 0.2, 1]
    )


def test_area_is_how_often_the_pair_of_one_identity_is_nearer():
    same, different = [0.3, 0.1, 0.9, 0.2, 0.4], [1.0, 0.35, 0.8, 0.7, 0.6, 0.95, 0.5, 1.2, 1.1, 1.3]
    wins = sum((s < d) + (s == d) / 2 for s in same for d in different)
    assert ROC.auc == pytest.approx(wins / 50)
    assert Roc(torch.ones(3), torch.ones(4)).auc == pytest.approx(0.5)


def test_equal_error_where_the_two_rates_meet():
    rate, threshold = ROC.equal_error()
    assert rate == pytest.approx(0.2) and 0.5 <= threshold < 0.6  # one of five rejected, two of ten accepted
    assert Roc(torch.tensor([0.1, 0.2]), torch.tensor([0.5, 0.6])).equal_error() == pytest.approx((0, 0.35))
    assert Roc(torch.tensor([3.0]), torch.tensor([1.0])).equal_error()[0] == pytest.approx(1)


def accepted(roc: Roc, rate: float) -> list[float]:
    """How many of the different, and what fraction of the same, the threshold for a rate accepts."""
    false, true = roc.accepted(torch.tensor([roc.at_false_accept(rate)], dtype=torch.float64))
    return [round(false.item() * len(roc.different)), true.item()]


@pytest.mark.parametrize("rate, count", [(0, 0), (0.01, 1), (0.019, 1), (0.02, 2), (0.5, 50), (0.999, 100), (1, 101)])
def test_the_threshold_for_a_rate_accepts_no_more_than_it(rate, count):
    """Of 101 different: 1 % is one of them, 2 % two, 99.9 % all but one."""
    assert accepted(Roc(torch.full((1,), 0.5), torch.linspace(1, 2, 101)), rate) == [count, 1]


def test_threshold_for_a_false_accept_rate():
    # 10 different: 0.35, 0.5, 0.6, 0.7, 0.8, 0.95, 1.0 to 1.3. None: below 0.35, above 0.3 of one identity;
    # one: below 0.5, above 0.4 of one identity; two: between 0.5 and 0.6; nine: between 1.2 and 1.3
    expected = {0: 0.325, 0.05: 0.325, 0.1: 0.45, 0.2: 0.55, 0.29: 0.55, 0.9: 1.25, 1: 1.3}
    assert [ROC.at_false_accept(rate) for rate in expected] == pytest.approx(list(expected.values()))
    assert [accepted(ROC, rate)[1] for rate in (0, 0.1, 0.5, 1)] == [ROC.true_accept(rate) for rate in (0, 0.1, 0.5, 1)]
    assert accepted(Roc(torch.ones(1), torch.linspace(0.1, 1.6, 16)), 0.001) == [0, 0]  # of 16, one would be 6 %


def test_equal_distances_are_accepted_together_or_not_at_all():
    ties = Roc(torch.tensor([0.2, 0.5]), torch.tensor([0.3, 0.5, 0.5, 0.5, 0.9]))
    assert [ties.at_false_accept(rate) for rate in (0.2, 0.4, 0.6, 0.8)] == pytest.approx([0.4, 0.4, 0.4, 0.7])
    equal = Roc(torch.zeros(2), torch.zeros(3))
    assert accepted(equal, 0.5) == [0, 0] and accepted(equal, 1) == [3, 1]
    neighbors = Roc(torch.ones(1), torch.tensor([1.0]).nextafter(torch.tensor(2.0)))  # as float32 has them
    assert accepted(neighbors, 0) == [0, 1]


def test_true_accepts_while_no_more_are_false():
    assert [ROC.true_accept(rate) for rate in (0, 0.05, 0.1, 0.5, 1)] == pytest.approx([0.6, 0.6, 0.8, 1, 1])


def test_points_rise_from_few_false_accepts_to_all():
    points = ROC.points(20)
    assert points["false_accept"][-1] == points["true_accept"][-1] == 1
    assert all(points[name] == sorted(points[name]) and len(points[name]) == 20 for name in points)


def test_calibration_is_the_most_likely_slope_and_offset():
    random = torch.Generator().manual_seed(0)
    same, different = torch.randn(400, generator=random) * 0.2 + 0.6, torch.randn(3000, generator=random) * 0.2 + 1.2
    found = platt(Roc(same, different))
    # Two normal distributions of one variance: log odds of (1.2^2 - 0.6^2 - 1.2 d) / (2 0.04)
    assert found.slope == pytest.approx(0.6 / 0.04, rel=0.1)
    assert found(torch.tensor([0.9])).item() == pytest.approx(0.5, abs=0.05)
    assert found(torch.tensor([0.8])).item() == pytest.approx(1 / (1 + math.exp(-1.5)), abs=0.05)


def test_calibration_of_pairs_without_an_error_is_finite():
    found = platt(Roc(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 1.1, 1.2])))
    assert 0 < found.slope < 100 and found(torch.tensor([0.2])) > 0.7 and found(torch.tensor([1.1])) < 0.3
    assert found(torch.tensor([0.65])).item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("n, m", [(3, 8), (1, 1), (2, 100)])
def test_calibration_aims_at_the_targets_of_platt(n, m):
    """With one distance for each kind of pair the curve passes through both targets, however many pairs there are."""
    found = platt(Roc(torch.full((n,), 0.2), torch.full((m,), 1.0)))
    assert found(torch.tensor([0.2, 1.0])).tolist() == pytest.approx([(n + 1) / (n + 2), 1 / (m + 2)], abs=1e-6)


def test_no_pairs_of_a_kind_are_said():
    with pytest.raises(DataError, match="of the same identity"):
        Roc(torch.zeros(0), torch.ones(1))
    with pytest.raises(DataError, match="of different identities"):
        Roc(torch.ones(1), torch.zeros(0))

"""Schedules of the learning rate, by hand."""

import pytest

from mlcli.training.schedules import SCHEDULES


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_rates_stay_between_zero_and_one(name):
    factors = [SCHEDULES[name](step, 100) for step in range(100)]
    assert all(0 < factor <= 1 for factor in factors)


def test_one_cycle_by_hand():
    one_cycle = SCHEDULES["one-cycle"]
    assert one_cycle(0, 100) == pytest.approx(0.1)
    assert one_cycle(25, 100) == pytest.approx(1)
    assert one_cycle(70, 100) == pytest.approx(0.4)
    assert SCHEDULES["cosine"](5, 100) == pytest.approx(1)
    assert SCHEDULES["cosine"](52.5, 100) == pytest.approx(0.5)


def test_linear_and_stepped_rates_by_hand():
    linear, stepped = SCHEDULES["linear"], SCHEDULES["step"]
    assert [linear(step, 200) for step in (0, 99, 100, 150, 199)] == pytest.approx([1, 1, 1, 0.5, 0.01])
    assert [stepped(step, 200) for step in (0, 49, 50, 100, 199)] == pytest.approx([1, 1, 0.1, 0.01, 0.001])

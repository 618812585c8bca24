"""Figures of the table by hand, guards on constructed cases."""

import math

import pytest
import torch

from mlcli.methods.adaptation import domain_checks, projection
from mlcli.methods.evaluation import significance
from mlcli.methods.evaluation.classification import wilson
from mlcli.methods.generation.translation import GanMonitor


def test_mean_sd_interval_and_runs():
    runs = [torch.tensor([1.0, 1, 0, 0]).double(), torch.tensor([1.0, 1, 1, 0]).double()]
    figure = significance.figure(runs, "classify")
    assert figure["mean"] == 0.625 and figure["runs"] == [0.5, 0.75]
    assert figure["sd"] == pytest.approx(math.sqrt(2 * 0.125**2))
    assert tuple(figure["interval"]) == wilson(2.5, 4), "of 4 images, not of 8"
    assert significance.figure(runs[:1], "classify")["sd"] is None


def test_the_bootstrap_of_dice_holds_what_the_normal_interval_holds():
    values = torch.rand(400, generator=torch.Generator().manual_seed(1)).double()
    low, high = significance.figure([values], "segment")["interval"]
    half = 1.96 * values.std().item() / 20
    assert low == pytest.approx(values.mean().item() - half, abs=0.005)
    assert high == pytest.approx(values.mean().item() + half, abs=0.005)


@pytest.mark.parametrize("b, c, p", [(0, 0, 1.0), (0, 5, 2 / 32), (1, 9, 2 * 11 / 1024), (4, 4, 1.0)])
def test_mcnemar_is_the_exact_binomial(b, c, p):
    first = torch.tensor([1.0] * b + [0.0] * c + [1.0, 0.0])
    second = torch.tensor([0.0] * b + [1.0] * c + [1.0, 0.0])
    assert significance.mcnemar(first, second) == {"first_alone": b, "second_alone": c, "p": pytest.approx(p)}


def test_mcnemar_of_thousands_of_images():
    first, second = torch.tensor([1.0] * 1000 + [0.0] * 1100), torch.tensor([0.0] * 1000 + [1.0] * 1100)
    z = 99 / math.sqrt(2100)  # normal, with the correction for continuity
    assert significance.mcnemar(first, second)["p"] == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


def test_dice_by_hand():
    labels, predicted = torch.zeros(2, 2, 4, dtype=torch.long), torch.zeros(2, 2, 4, dtype=torch.long)
    labels[0, 0, :3], predicted[0, 0, 1:] = 1, 1  # 3 and 3 pixels, 2 of them shared
    labels[0, 1, 0] = 2  # missed
    assert significance.scores(predicted, labels, 3).tolist() == [pytest.approx((2 * 2 / 6 + 0) / 2), 1.0]
    assert significance.per_class([predicted], labels, ("background", "a", "b")) == {
        "a": pytest.approx(2 / 3),
        "b": 0.0,
    }


def test_accuracy_of_each_class():
    labels = torch.tensor([0, 0, 1])
    runs = [torch.tensor([0, 1, 1]), torch.tensor([0, 0, 0])]
    assert significance.per_class(runs, labels, ("a", "b", "none")) == {"a": 0.75, "b": 0.5}


def test_the_gap_that_is_closed():
    rows = {name: {"mean": mean} for name, mean in (("source_only", 0.6), ("adapted", 0.9), ("target_supervised", 1))}
    assert significance.gap_closed(rows) == pytest.approx(0.75)
    rows["target_supervised"]["mean"] = 0.5
    assert significance.gap_closed(rows) is None, "the bound is none"
    del rows["target_supervised"]
    assert significance.gap_closed(rows) is None


def test_a_guard_against_collapse_fires_on_one_class_and_not_on_all():
    even, one = torch.arange(100) % 10, torch.zeros(100, dtype=torch.long)
    assert "collapse" in significance.collapse(even, one, even) and "100%" in significance.collapse(even, one, even)
    assert not significance.collapse(even, even, even) and not significance.collapse(one, even, even)


def test_a_guard_against_collapse_fires_where_the_source_model_was_near_it_too():
    two, poor = torch.arange(100) % 2, (torch.arange(100) < 10).long()
    assert "before it was 1.4, and the source has 2.0" in significance.collapse(poor, torch.zeros_like(poor), two)
    assert not significance.collapse(poor, poor, two)
    assert not significance.collapse(poor, poor, poor), "a source of one frequent class has such a target"


def test_a_guard_says_when_it_is_worse_than_source_only():
    rows = {"source_only": {"mean": 0.6}, "adapted": {"mean": 0.5}}
    assert "60.00%" in significance.worse(rows, "accuracy") and "50.00%" in significance.worse(rows, "accuracy")
    rows["adapted"]["mean"] = 0.6
    assert not significance.worse(rows, "accuracy")


@pytest.mark.parametrize("accuracy, words", [(1.0, "correct on every image"), (0.0, "collapsed")])
def test_a_guard_says_when_a_network_has_won_for_good(accuracy, words):
    monitor = GanMonitor()
    said = [monitor.warning({"d_accuracy": accuracy}) for _ in range(60)]
    assert [words in each for each in said].count(True) == 1


def images() -> torch.Tensor:
    """Bright discs on black, gray in three channels, (20, 3, 20, 20) uint8."""
    y, x = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    disc = ((y - 10) ** 2 + (x - 10) ** 2 < 30).to(torch.uint8) * 255
    return disc.expand(20, 3, 20, 20).clone()


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda x: 255 - x,
            "polarity disagrees: the source shows bright objects on a dark background, the target dark objects on a",
        ),
        (lambda x: x // 3, "value ranges disagree: source and target images span 0.00 to 1.00 and 0.00 to 0.33"),
        (
            lambda x: x // 3 + 170,
            "value ranges disagree: source and target images span 0.00 to 1.00 and 0.67 to 1.00",
        ),
        (lambda x: x * torch.tensor([1, 1, 0])[:, None, None], "channels disagree: source images are in gray"),
    ],
)
def test_domains_that_disagree(change, words):
    found = domain_checks.disagreements(images(), change(images()).to(torch.uint8))
    assert len(found) == 1 and words in found[0]


def test_domains_that_agree_are_left_alone():
    darker = (images().float() * 0.8 + 20).to(torch.uint8)
    assert domain_checks.disagreements(images(), darker) == []


def test_ranges_of_equal_length_that_lie_apart_disagree():
    dark, bright = ((images().float() * 0.55 + low).to(torch.uint8) for low in (0, 114))
    (said,) = domain_checks.disagreements(dark, bright)
    assert "span 0.00 to 0.55 and 0.45 to 1.00" in said


def test_principal_components_of_a_line():
    t = torch.linspace(-1, 1, 11).double()
    points = torch.stack([3 * t, 4 * t, 0.1 * t.square()], 1)
    found = projection.principal_components(points)
    assert torch.allclose(found[:, 0].abs(), 5 * t.abs(), atol=1e-6)
    assert found[:, 0].abs().max() == found[:, 0].max(), "the sign is settled"

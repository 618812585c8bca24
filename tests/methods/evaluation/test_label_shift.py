"""Class frequencies by hand, and of domains whose frequencies are known."""

import pytest
import torch

from mlcli.methods.evaluation import label_shift

EQUAL = torch.full((3,), 1 / 3, dtype=torch.float64)


def two_normals(count, fraction, seed=0):
    """(x (count,), classes): class 1, at +1, has this fraction of the images; class 0 is at -1. The variance is 1."""
    random = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) < fraction * count).long()
    return 2.0 * labels - 1 + torch.randn(count, generator=random), labels


def bayes(x, fraction):
    """The exact probabilities (N, 2) where class 1 has this fraction."""
    odds = (2 * x).double().exp() * fraction / (1 - fraction)
    return torch.stack([1 / (1 + odds), odds / (1 + odds)], 1)


def test_frequencies_and_total_variation_by_hand():
    found = label_shift.frequencies(torch.tensor([0, 2, 2, 2]), 4)
    assert found.tolist() == [0.25, 0, 0.75, 0]
    assert label_shift.total_variation(found, torch.tensor([0.25, 0.5, 0.25, 0]).double()) == 0.5


def test_sure_predictions_are_counted():
    p = torch.eye(3)[torch.tensor([0, 0, 0, 1])]
    assert label_shift.estimated(p, EQUAL).tolist() == pytest.approx([0.75, 0.25, 0])


def test_one_kind_of_image_by_hand():
    """All images are predicted the same; under any frequencies but those of class 0 alone they are less likely."""
    p = torch.tensor([[0.6, 0.3, 0.1]]).expand(5, 3)
    assert label_shift.estimated(p, EQUAL).tolist() == pytest.approx([1, 0, 0], abs=1e-4)
    # likelihood ratios 0.6 / 0.75, 0.3 / 0.15 and 0.1 / 0.1, of which that of class 1 is the largest
    rare = torch.tensor([0.75, 0.15, 0.1]).double()
    assert label_shift.estimated(p, rare).tolist() == pytest.approx([0, 1, 0], abs=1e-4)


def test_two_kinds_of_images_by_hand():
    """The maximum of a log(1.6 w + 0.4 (1 - w)) + b log(0.4 w + 1.6 (1 - w)) for a = 5, b = 3."""
    p = torch.tensor([[0.8, 0.2]] * 5 + [[0.2, 0.8]] * 3)
    found = label_shift.estimated(p, torch.tensor([0.5, 0.5]))
    # a 1.2 / (0.4 + 1.2 w) = b 1.2 / (1.6 - 1.2 w), so 5 (1.6 - 1.2 w) = 3 (0.4 + 1.2 w)
    assert found.tolist() == pytest.approx([6.8 / 9.6, 2.8 / 9.6], abs=1e-5)


@pytest.mark.parametrize("trained_on, fraction", [(0.5, 0.1), (0.5, 0.5), (0.8, 0.2)])
def test_known_frequencies_are_found_where_counts_are_wrong(trained_on, fraction):
    x, labels = two_normals(4000, fraction)
    p = bayes(x, trained_on)
    source, true = torch.tensor([1 - trained_on, trained_on]).double(), label_shift.frequencies(labels, 2)
    assert label_shift.total_variation(label_shift.estimated(p, source), true) < 0.02
    if trained_on != fraction:
        assert label_shift.total_variation(label_shift.frequencies(p.argmax(1), 2), true) > 0.06


def test_a_class_that_the_source_has_not_is_given_none():
    p = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]])
    found = label_shift.estimated(p, torch.tensor([0.5, 0.5, 0]))
    assert found[2] == 0 and found.sum().item() == pytest.approx(1)


def test_the_warning_names_classes_and_methods():
    target, methods = torch.tensor([0.8, 0.1, 0.1]).double(), ["adda", "dann", "shot"]
    words = label_shift.warning(target, EQUAL, ("bird", "cat", "dog"), methods)
    assert "total variation distance 0.47" in words and "adda, dann and shot assume equal frequencies" in words
    assert "class cat, 10% in place of 33%; class bird, 80% in place of 33%" in words
    assert label_shift.warning(EQUAL, EQUAL, ("bird", "cat", "dog"), methods) == ""

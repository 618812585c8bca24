"""Reverse validation of predictions that are right, partly wrong, and all the same, by hand."""

import torch

from mlcli.methods.evaluation.reverse_validation import ReverseValidation


def points(count, offset=0.0, seed=0):
    """(features (count, 3), labels (count,)): each class along an axis of its own, with an offset of the domain."""
    random, labels = torch.Generator().manual_seed(seed), torch.arange(count) % 3
    return torch.eye(3)[labels] + offset + 0.1 * torch.randn(count, 3, generator=random), labels


def test_predictions_that_are_right_are_the_best_in_spite_of_a_domain_gap():
    target, true = points(90, 0.2)
    rate = ReverseValidation(target, *points(60, seed=1))
    assert rate(torch.eye(3)[true]) > 0.9
    for number in (0, 1, 2):  # a class that is not predicted is not learned
        missing = torch.where(true == number, (number + 1) % 3, true)
        assert 0.6 < rate(torch.eye(3)[missing]) < 0.7
    assert rate(torch.eye(3)[torch.tensor([1, 0, 2])[true]]) < 0.4
    assert rate(torch.eye(3)[torch.zeros_like(true)]) == 1 / 3


def test_it_is_the_accuracy_on_the_source_by_the_images_whose_features_it_has():
    """Features that are all equal leave the most frequent class alone."""
    rate = ReverseValidation(torch.ones(10, 2), torch.ones(4, 2), torch.tensor([0, 0, 0, 1]))
    p = torch.eye(2)[torch.tensor([0] * 8 + [1] * 2)]
    assert rate(p) == rate(torch.cat([p, 1 - p, 1 - p])) == 0.75 and rate(1 - p) == 0.25

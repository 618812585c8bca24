"""The convex solver against the conditions of a minimum, its folds, and an estimate that is not flattered."""

import pytest
import torch
import torch.nn.functional as F

from mlcli.methods.learning.linear_head import L2, LinearClassifier, Problem, choose_l2, fit, folds, held_out, solve


def blobs(n: int = 60, d: int = 8, classes: int = 3, apart: float = 1.0, seed: int = 0) -> Problem:
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    x = torch.randn(n, d, generator=random) + apart * torch.randn(classes, d, generator=random)[y]
    return Problem(x[:, None] * torch.linspace(0.1, 20, d) + 5, y, classes)


def gradient(problem: Problem, layer: LinearClassifier) -> torch.Tensor:
    """Of L in the standardized coordinates, by its formula: sum_i s_i (p_i - e_y) (x_i, 1)^T + l2 (W, 0)."""
    x = problem.x.double().flatten(0, 1)
    mean, deviation = x.mean(0), x.std(0, correction=0)
    views = problem.x.shape[1]
    y, s = problem.y.repeat_interleave(views), (problem.weights() / views).repeat_interleave(views)
    residual = s[:, None] * (layer.probabilities(x) - F.one_hot(y, problem.classes))
    standard = torch.cat([(x - mean) / deviation, torch.ones(len(x), 1)], 1)
    penalty = F.pad(layer.l2 * layer.weight * deviation, (0, 1))
    return residual.T @ standard + penalty


@pytest.mark.parametrize("balanced", [False, True])
def test_the_solution_is_the_minimum(balanced):
    problem = blobs()
    uneven = Problem(*(part[:50] for part in (problem.x, problem.y)), 3, balanced)
    for layer in solve(uneven, (1.0, 1e-2, 1e-4)):
        assert gradient(uneven, layer).abs().max() < 2e-6
        assert layer.weight.dtype == torch.float64 and layer.weight.abs().max() > 1e-4


def test_the_same_problem_has_the_same_solution():
    first, second = (solve(blobs(), (1e-2,))[0] for _ in range(2))
    assert torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)


def test_weights_by_hand():
    x, y = torch.zeros(5, 1, 1), torch.tensor([0, 0, 0, 0, 1])
    assert torch.equal(Problem(x, y, 2).weights(), torch.full((5,), 0.2, dtype=torch.float64))
    assert Problem(x, y, 2, balanced=True).weights().tolist() == pytest.approx([0.125] * 4 + [0.5])


def test_copies_of_a_image_weigh_as_much_as_the_image():
    problem = blobs()
    twice = Problem(problem.x.expand(-1, 2, -1), problem.y, 3)
    one, two = (solve(p, (1e-2,))[0] for p in (problem, twice))
    assert torch.allclose(one.weight, two.weight, atol=1e-5) and torch.allclose(one.bias, two.bias, atol=1e-4)


def test_a_feature_that_never_varies_says_nothing():
    problem = blobs()
    problem.x[:, :, 3] = 7
    (layer,) = solve(problem, (1e-2,))
    assert (layer.weight[:, 3] == 0).all() and layer.bias.isfinite().all()


def test_folds_spread_each_class_evenly():
    y = torch.tensor([0] * 23 + [1] * 7 + [2])
    fold = folds(y, 5, seed=1)
    assert sorted(fold[y == 0].bincount().tolist()) == [4, 4, 5, 5, 5]
    assert fold[y == 1].bincount(minlength=5).min() == 1 and fold[y == 2].item() == -1
    assert torch.equal(fold, folds(y, 5, seed=1)) and not torch.equal(fold, folds(y, 5, seed=2))
    assert fold[fold >= 0].bincount().tolist() == [6] * 5, "no fold is larger than another"


def test_noise_asks_for_a_strong_penalty_and_signal_for_less():
    noise, signal = blobs(apart=0.0), blobs(apart=3.0)
    assert choose_l2(noise, folds(noise.y, 5, 0)) >= 1
    assert choose_l2(signal, folds(signal.y, 5, 0)) < 1


def test_an_estimate_is_not_flattered_by_what_it_has_learned():
    """Labels that mean nothing, more features than images: all is learned by heart, and nothing is known."""
    noise = blobs(n=60, d=80, classes=2, apart=0.0)
    fold = folds(noise.y, 4, 0)
    assert (solve(noise, (1e-5,))[0].probabilities(noise.x[:, 0]).argmax(1) == noise.y).all()
    accuracy = (held_out(noise, fold).argmax(1) == noise.y).double().mean()
    assert 0.3 < accuracy < 0.7
    signal = blobs(n=60, apart=3.0)
    assert (held_out(signal, folds(signal.y, 4, 0)).argmax(1) == signal.y).double().mean() > 0.9


def test_two_folds_choose_their_penalty_by_parts_of_one(recwarn):
    signal = blobs(n=60, apart=3.0)
    fold = folds(signal.y, 2, 0)
    told = held_out(signal, fold)
    strongest = solve(signal.part(fold == 1), (max(L2),))[0].probabilities(signal.x[fold == 0, 0])
    own = fit(signal.part(fold == 1), folds(signal.y[fold == 1], 2, 0)).probabilities(signal.x[fold == 0, 0])
    assert torch.equal(told[fold == 0], own) and not torch.allclose(told[fold == 0], strongest, atol=0.05)
    assert not recwarn.list, "a deviation of no images at all"


def test_the_only_image_of_a_class_is_learned_from_and_not_tested():
    problem = blobs(n=31, apart=3.0)
    problem.y[problem.y == 2] = 0
    problem.y[30] = 2
    fold = folds(problem.y, 3, 0)
    told = held_out(problem, fold)
    assert told[30].isnan().all() and told[:30].isfinite().all()
    assert fit(problem, fold).probabilities(problem.x[:, 0])[30].argmax() == 2

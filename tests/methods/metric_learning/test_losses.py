"""Losses against values computed by hand or in plain loops."""

import math

import pytest
import torch

from mlcli.methods.metric_learning.losses import LOSSES, CrossEntropy, Sphere, Triplet, WeightedL1, mined, pairwise

# On a line, so that distances can be read: identities 0 at 0 and 1, 1 at 3, 2 at 3.5 and 7
POINTS = torch.tensor([[0.0], [1.0], [3.0], [3.5], [7.0]])
IDENTITIES = torch.tensor([0, 0, 1, 2, 2])


@pytest.mark.parametrize("name", LOSSES)
def test_distances_are_symmetric_and_zero_to_oneself_and_gradients_finite(name):
    torch.manual_seed(0)
    space, loss = LOSSES[name][0](6), LOSSES[name][1](6, 3, 0.5, 10.0)
    f = torch.randn(6, 6)
    f[1] = f[0]  # the same image twice
    f.requires_grad_()
    points = space(f)
    distances = pairwise(points, space.norm)
    assert torch.allclose(distances, distances.T, atol=1e-6) and distances[0, 1] < 1e-3
    explicit = torch.stack([torch.linalg.vector_norm(points - p, ord=space.norm, dim=1) for p in points])
    assert torch.allclose(distances, explicit, atol=2e-3)
    loss(points, torch.tensor([0, 0, 1, 1, 2, 2])).backward()
    assert f.grad.isfinite().all() and f.grad.abs().sum() > 0


def test_spaces():
    f = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert torch.allclose(Sphere(2)(f), torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    weighted = WeightedL1(2)
    alpha = torch.nn.functional.softplus(weighted.weight)
    assert alpha.tolist() == pytest.approx([4, 4])
    expected = (alpha * (f[0].sigmoid() - f[1].sigmoid()).abs()).sum()
    assert pairwise(weighted(f), 1)[0, 1].item() == pytest.approx(expected.item(), rel=1e-5)


def test_mining_takes_as_many_of_each_kind_and_the_nearest_first():
    same, different = mined(pairwise(POINTS, 1), IDENTITIES)
    assert sorted(same.tolist()) == pytest.approx([1, 3.5])
    assert different.tolist() == pytest.approx([0.5, 2])  # the hardest; then, of the other seven, the first
    no_pairs, one = mined(pairwise(POINTS[1:3], 1), IDENTITIES[1:3])
    assert len(no_pairs) == 0 and one.tolist() == [2]


def test_triplets_take_the_farthest_of_the_same_and_the_nearest_other():
    unit = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])

    def d(i, j):
        return math.dist(unit[i].tolist(), unit[j].tolist())

    hinges = [0.2 + d(0, 1) - d(0, 2), 0.2 + d(1, 0) - d(1, 2), 0.2 + d(2, 3) - d(2, 1), 0.2 + d(3, 2) - d(3, 0)]
    loss = Triplet(2, 2, 0.2, 1)(unit, torch.tensor([0, 0, 1, 1]))
    assert loss.item() == pytest.approx(sum(max(0, h) for h in hinges) / 4, rel=1e-5)


def test_contrastive_pulls_to_zero_and_pushes_to_the_margin():
    loss = LOSSES["contrastive"][1](1, 3, 1.0, 1)
    unit = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    near = 2 - 2 * 0.8  # squared, of the only mined pair of two identities
    expected = (2 - 2 * 0.6) + max(0, 1 - math.sqrt(near)) ** 2
    assert loss(unit, torch.tensor([0, 0, 1])).item() == pytest.approx(expected, rel=1e-4)


def test_cross_entropy_of_the_weighted_distance():
    loss = CrossEntropy(1, 3, 0, 1)
    b = loss.bias.item()
    same, different = [1.0, 3.5], [0.5, 2.0]
    expected = sum(math.log(1 + math.exp(d - b)) for d in same) / 2
    expected += sum(math.log(1 + math.exp(b - d)) for d in different) / 2
    assert loss(POINTS, IDENTITIES).item() == pytest.approx(expected, rel=1e-5)


def test_softmax_over_distances_to_proxies():
    loss = LOSSES["softmax"][1](2, 3, 0.1, 5.0)
    with torch.no_grad():
        loss.proxies.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]))
    unit = torch.tensor([[0.6, 0.8]])
    logits = [-5 * math.dist((0.6, 0.8), w) ** 2 / 2 for w in ((1, 0), (0, 1), (-1, 0))]
    logits[1] -= 5 * 0.1
    expected = math.log(sum(map(math.exp, logits))) - logits[1]
    assert loss(unit, torch.tensor([1])).item() == pytest.approx(expected, rel=1e-5)

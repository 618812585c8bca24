import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from mlcli.errors import DataError
from mlcli.methods.evaluation.classification import wilson
from mlcli.methods.metric_learning.embedder import Siamese
from mlcli.methods.metric_learning.losses import Sphere
from mlcli.methods.metric_learning.roc import Roc
from mlcli.methods.metric_learning.verification import (
    Pairs,
    accuracy_interval,
    all_pairs,
    different_pairs,
    evaluate,
    intervals,
    nearest_identities,
    one_shot,
    require_pairs,
)

IDENTITIES = torch.arange(12).repeat_interleave(5)


@pytest.fixture
def siamese():
    return Siamese(None, Sphere(16), 1, False, False, None, SimpleNamespace(threshold=0.9))


def clouds(spread: float, seed: int = 0) -> torch.Tensor:
    """Twelve identities, five points of each around a center of its own, on the sphere."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.randn(12, 16, generator=random)
    points = centers[IDENTITIES] + spread * torch.randn(60, 16, generator=random)
    return torch.nn.functional.normalize(points)


def test_every_pair_is_compared_once(siamese):
    points = clouds(0.5)
    pairs = all_pairs(siamese, points, IDENTITIES, 0)
    expected = {(i, j): (points[i] - points[j]).norm().item() for i, j in itertools.combinations(range(60), 2)}
    found = dict(
        zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.distances.tolist(), strict=True)
    )
    assert found == pytest.approx(expected, abs=1e-6)
    assert pairs.same.sum() == 12 * 10 and len(pairs.same) == 60 * 59 // 2
    assert all(
        IDENTITIES[i] == IDENTITIES[j] for i, j in zip(pairs.first[pairs.same], pairs.second[pairs.same], strict=True)
    )


def test_of_too_many_pairs_all_of_one_identity_and_some_of_the_others(siamese):
    pairs = all_pairs(siamese, clouds(0.5), IDENTITIES, 0, most=500)
    assert pairs.same.sum() == 120 and 300 < (~pairs.same).sum() < 600


def test_pairs_of_different_identities_are_counted_as_they_are_compared(siamese):
    uneven = torch.tensor([3, 3, 3, 5, 5, 7])  # 3 x 2 + 3 x 1 + 2 x 1
    assert different_pairs(uneven) == 11 == int((~all_pairs(siamese, clouds(0.5)[:6], uneven, 0).same).sum())
    assert different_pairs(IDENTITIES, most=885) == 825  # of 1770 pairs 120 are of one identity


def test_a_threshold_just_below_a_distance_does_not_accept_it(siamese):
    near = torch.tensor([1 + 2**-23, 1 + 2**-22])  # of which float32 has no mean
    siamese.calibration.threshold = near.double().mean().item()
    points = torch.zeros(3, 1)
    points[1:, 0] = near[1]
    assert evaluate(siamese, points, torch.tensor([0, 1, 1]), 0)["false_accept_rate"] == 0


def test_intervals_cover_what_other_draws_give(siamese):
    def figure(seed):
        pairs = all_pairs(siamese, clouds(0.9, seed), IDENTITIES, 0)
        return pairs, pairs.roc.equal_error()[0], pairs.roc.auc

    pairs, eer, auc = figure(0)
    found = intervals(pairs, IDENTITIES, 0.9, 0)
    assert found["eer"][0] < eer < found["eer"][1] and found["auc"][0] < auc < found["auc"][1]
    others = [figure(seed)[1:] for seed in range(1, 11)]
    inside = sum(found["eer"][0] <= other[0] <= found["eer"][1] for other in others)
    assert inside >= 5 and 0.01 < found["eer"][1] - found["eer"][0] < 0.2


@pytest.mark.parametrize("identity", [0, 7])
def test_pairs_of_an_identity_that_is_not_drawn_do_not_count_on_either_side(identity):
    """The 4 x 7 pairs of one identity with the others are all that is falsely accepted, of 4 x 28.

    Of the resamples a third lack this identity, whether it is the first or the second of its pairs. In about 1 of 15 it
    was drawn at least three times of eight, for at least 3 x 5 of at most 28 pairs of identities.
    """
    identities = torch.arange(8).repeat_interleave(2)
    first, second = torch.tensor(list(itertools.combinations(range(16), 2))).T
    same = identities[first] == identities[second]
    confused = (identities[first] == identity) | (identities[second] == identity)
    pairs = Pairs(first, second, torch.where(same, 0.5, torch.where(confused, 0.0, 1.0)), same)
    low, high = intervals(pairs, identities, 0.25, 0)["false_accept_rate"]
    assert low == 0 and 15 / 28 <= high < 0.75


def test_figures_of_points_that_are_apart_and_of_noise(siamese):
    apart = evaluate(siamese, clouds(0.05), IDENTITIES, 0)
    assert apart["eer"] == 0 and apart["auc"] == 1 and apart["threshold"] == 0.9
    assert apart["accuracy"] > 0.95 and [one["true_accept"] for one in apart["true_accepts"]] == [1, 1, 1]
    pairs = all_pairs(siamese, clouds(1.0), IDENTITIES, 0)
    for one in evaluate(siamese, clouds(1.0), IDENTITIES, 0)["true_accepts"]:
        accepted = pairs.distances <= one["threshold"]
        assert accepted[pairs.same].double().mean() == one["true_accept"]
        assert 0 < accepted[~pairs.same].double().mean() <= one["false_accept"] or one["false_accept"] < 0.01
    noise = evaluate(siamese, clouds(100), IDENTITIES, 0)
    assert noise["eer"] == pytest.approx(0.5, abs=0.1) and noise["auc"] == pytest.approx(0.5, abs=0.1)
    pairs = all_pairs(siamese, clouds(100), IDENTITIES, 0)
    right = ((pairs.distances <= 0.9) == pairs.same).double()
    assert noise["accuracy"] == pytest.approx(((right[pairs.same].mean() + right[~pairs.same].mean()) / 2).item())


def test_one_shot_of_points_that_are_apart_of_noise_and_of_equal_points(siamese):
    options = {"way": 5, "shot": 1, "trials": 300, "seed": 0}
    groups = ["a"] * 6 + ["b"] * 6
    assert one_shot(siamese, clouds(0.05), IDENTITIES, groups, **options)["accuracy"] == 1
    noise = one_shot(siamese, clouds(1000), IDENTITIES, groups, **options)
    assert noise["accuracy"] == pytest.approx(0.2, abs=0.08) and noise["way"] == 5
    assert noise["interval"][0] < 0.2 < noise["interval"][1]
    assert one_shot(siamese, torch.ones(60, 16), IDENTITIES, groups, **options)["accuracy"] == 0


def test_one_shot_draws_within_groups_and_takes_what_there_is(siamese):
    points = clouds(0.05)
    points[30:] = points[:30]  # the identities of b are those of a once more
    options = {"way": 20, "shot": 4, "trials": 50, "seed": 0}
    within = one_shot(siamese, points, IDENTITIES, ["a"] * 6 + ["b"] * 6, **options)
    assert within["accuracy"] == 1 and within["way"] == 6
    assert one_shot(siamese, points, IDENTITIES, [""] * 12, **options)["accuracy"] < 0.5
    assert one_shot(siamese, points, IDENTITIES, [""] * 12, way=5, shot=5, trials=5, seed=0) is None


def test_the_interval_of_one_shot_is_that_of_other_identities():
    """Of 40 identities the trials of half are all right, those of the others all wrong: as 40 trials, not 4000."""
    right, identities = torch.arange(4000) % 2 == 0, torch.arange(4000) % 40 + 3
    low, high = accuracy_interval(right, identities, 0)
    error = math.sqrt(0.25 / 40)
    assert (low, high) == pytest.approx((0.5 - 1.96 * error, 0.5 + 1.96 * error), abs=0.04)
    # where the identities are similar, other draws of them say the same
    assert accuracy_interval(torch.arange(4000) < 2000, identities, 0) == [0.5, 0.5]
    # of one trial each, other identities are as other trials
    alone = accuracy_interval(torch.arange(200) < 140, torch.arange(200), 0)
    assert alone == pytest.approx(wilson(140, 200), abs=0.02)
    # an identity counts by its trials: two draws of these two give 3/4, 3/6 or 0
    assert accuracy_interval(torch.tensor([1, 1, 1, 0, 0, 0]), torch.tensor([8, 8, 8, 8, 2, 2]), 0) == [0, 0.75]


def test_the_interval_of_one_shot_without_errors_is_that_of_few_identities():
    for found, successes in ((True, 10), (False, 0)):
        interval = accuracy_interval(torch.full((400,), found), torch.arange(400) % 10, 0)
        assert interval == list(wilson(successes, 10)) and interval[1] - interval[0] > 0.2


def test_one_shot_asks_for_other_identities_in_its_interval(siamese):
    """Six of twelve identities are told apart, the others are not: much is due to which ones are asked for."""
    points = clouds(0.01)
    points[30:] = 0.25  # equal points
    found = one_shot(siamese, points, IDENTITIES, [""] * 12, way=2, shot=1, trials=1200, seed=0)
    low, high = found["interval"]
    assert low < found["accuracy"] < high and high - low > 3 * (wilson(600, 1200)[1] - wilson(600, 1200)[0])


def test_one_shot_draws_from_groups_that_have_as_many_identities(siamese):
    points = torch.ones(60, 16)  # equal points are never told apart
    points[:20] = clouds(0.01)[:20]  # but for the four identities of a, which are
    groups = ["a"] * 4 + ["b"] * 8
    options = {"shot": 1, "trials": 40, "seed": 0}
    found = {way: one_shot(siamese, points, IDENTITIES, groups, way=way, **options) for way in (4, 5, 8, 20)}
    assert [found[way]["way"] for way in found] == [4, 5, 8, 8]
    assert [found[way]["accuracy"] for way in found] == [0.5, 0, 0, 0]  # a and b in turn, then b alone
    assert [found[way]["identities"] for way in found] == [12, 8, 8, 8]
    assert one_shot(siamese, points, IDENTITIES, list("abcdefghijkl"), way=5, **options) is None


def test_more_shots_help(siamese):
    options = {"way": 12, "trials": 300, "seed": 0}
    few, many = (
        one_shot(siamese, clouds(1.2), IDENTITIES, [""] * 12, shot=shot, **options)["accuracy"] for shot in (1, 4)
    )
    assert many > few + 0.1


def test_an_identity_is_as_far_as_its_nearest_image():
    distances = torch.tensor([0.5, 0.2, 0.4, 0.9, float("inf")])
    ranked, found = nearest_identities(distances, [7, 7, 3, 5, 9], 5, 0.3)
    assert [identity for identity, _ in ranked] == [7, 3, 5] and found == 7
    assert [d for _, d in ranked] == pytest.approx([0.2, 0.4, 0.9])
    assert nearest_identities(distances, [7, 7, 3, 5, 9], 2, 0.1) == (ranked[:2], None)


def test_what_cannot_be_compared_is_said():
    require_pairs(torch.tensor([0, 0, 2]), "there")
    with pytest.raises(DataError, match="fewer than two identities"):
        require_pairs(torch.tensor([1, 1]), "there")
    with pytest.raises(DataError, match="no two readable images"):
        require_pairs(torch.tensor([0, 1]), "there")
    with pytest.raises(DataError):
        Roc(torch.zeros(0), torch.zeros(3))

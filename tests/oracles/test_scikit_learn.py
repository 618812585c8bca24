"""What stays our own beside scikit-learn's: neighbors, ROC, Platt scaling, logistic regression, scores of classes."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
    roc_curve,
)
from sklearn.neighbors import NearestNeighbors

from mlcli.methods.evaluation.classification import evaluate
from mlcli.methods.evaluation.significance import dice
from mlcli.methods.learning.linear_head import Problem, solve
from mlcli.methods.metric_learning.roc import Roc, platt
from mlcli.methods.synthesis.paired_degradations import k_means, nearest
from mlcli.methods.visualization import nearest_neighbors


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_neighbors(metric):
    vectors, queries = drawn(300, 40), drawn(300, 40)[:20] + drawn(20, 40, seed=1)
    oracle = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute").fit(vectors.double().numpy())
    distances, indices = oracle.kneighbors(queries.double().numpy())
    blocks = [(torch.arange(0, 100), vectors[:100]), (torch.arange(100, 300), vectors[100:])]
    found, far = nearest_neighbors.nearest(queries, lambda: blocks, 7, metric)
    assert np.array_equal(found.numpy(), indices) and np.allclose(far.numpy(), distances, atol=1e-6)


def test_the_roc_curve_and_the_area_under_it():
    same, different = drawn(60).abs().round(decimals=1), (drawn(90, seed=1) + 1).abs().round(decimals=1)  # with ties
    roc, truth = Roc(same, different), np.repeat([1, 0], [60, 90])
    scores = -torch.cat([same, different]).double().numpy()
    false, true, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    ours = roc.accepted(torch.tensor(-thresholds[1:]))  # the first accepts nothing
    assert np.allclose(ours[0], false[1:]) and np.allclose(ours[1], true[1:])
    assert roc.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    for rate in (0.0, 0.05, 0.2, 1.0):
        assert roc.true_accept(rate) == pytest.approx(true[false <= rate + 1e-12].max())


def test_platt_scaling():
    """Its targets between 0 and 1 are, to logistic regression, both labels of each pair with weights."""
    same, different = drawn(40).abs().double(), (drawn(70, seed=1) + 2).abs().double()
    n, m = 40, 70
    x = torch.cat([same, different]).numpy()
    target = np.repeat([(n + 1) / (n + 2), 1 / (m + 2)], [n, m])
    weight = np.repeat([0.5 / n, 0.5 / m], [n, m])
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    oracle.fit(np.tile(x, 2)[:, None], np.repeat([1, 0], n + m), np.r_[weight * target, weight * (1 - target)] * 1000)
    ours = platt(Roc(same, different))
    assert ours.slope == pytest.approx(-oracle.coef_[0, 0], rel=1e-3)
    assert ours.offset == pytest.approx(oracle.intercept_[0], rel=1e-3)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_logistic_regression(balanced, l2):
    x, y = drawn(90, 6) * torch.tensor([1.0, 5, 1, 1, 0.1, 1]), torch.arange(90) % 9 // 4  # 0, 1, 2: unequal numbers
    x = x + y[:, None] * 0.5
    (layer,) = solve(Problem(x[:, None], y, 3, balanced), [l2])
    standard = (x.double() - x.double().mean(0)) / x.double().std(0, correction=0)
    problem = Problem(x[:, None], y, 3, balanced)
    oracle = LogisticRegression(C=1 / l2, tol=1e-9, max_iter=2000)
    oracle.fit(standard.numpy(), y.numpy(), problem.weights().numpy())
    assert np.allclose(layer.probabilities(x).numpy(), oracle.predict_proba(standard.numpy()), atol=1e-5)


def test_accuracy_balanced_accuracy_and_confusion():
    labels, rows = (torch.arange(80) ** 2 % 13 % 4).tolist(), drawn(80, 4).softmax(1)
    found, predicted = evaluate("abcd", zip(labels, rows, strict=True)), rows.argmax(1).tolist()
    assert found.correct / found.count == accuracy_score(labels, predicted)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    present = sorted(set(labels))
    assert np.array_equal(
        np.array(found.confusion)[present], confusion_matrix(labels, predicted, labels=range(4))[present]
    )


def test_dice_is_the_f1_score_of_pixels():
    predicted, true = (torch.randint(3, (2, 9, 8), generator=torch.Generator().manual_seed(s)) for s in range(2))
    for image, row in enumerate(dice(predicted, true, 3).tolist()):
        expected = f1_score(true[image].flatten(), predicted[image].flatten(), labels=[1, 2], average=None)
        assert row == pytest.approx(expected.tolist())


def test_k_means_finds_what_k_means_finds():
    centers = torch.tensor([[0.0, 0], [6, 0], [0, 6], [6, 6]])
    points = (centers[:, None] + drawn(4, 50, 2)).flatten(0, 1)
    ours = k_means(points, 4)
    oracle = KMeans(4, n_init=10, random_state=0).fit(points.numpy())
    inertia = (points - ours[nearest(points, ours)]).square().sum().item()
    assert inertia == pytest.approx(oracle.inertia_, rel=1e-4)

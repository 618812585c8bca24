"""Distances of sets of features against closed forms and plain loops in float64."""

import numpy as np
import pytest
import torch

from mlcli.methods.generation.fid_kid import Features, frechet, kernel
from mlcli.models import registry
from mlcli.models.structure.features import Activations
from mlcli.runtime.device import Runtime

PLAIN = Runtime(torch.device("cpu"), "fp32")


def with_moments(mean, covariance, count=50, seed=0) -> torch.Tensor:
    """Features (count, D) whose mean and covariance are exactly these."""
    x = np.random.default_rng(seed).normal(size=(count, len(mean)))
    x = x - x.mean(0)
    whitened = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return torch.tensor(whitened @ np.linalg.cholesky(np.array(covariance)).T + np.array(mean))


def test_frechet_distance_of_gaussians_whose_covariances_share_their_axes():
    """|m - n|^2 + sum (sqrt(a) - sqrt(b))^2."""
    x = with_moments([1.0, 2, 3], np.diag([4.0, 9, 1]))
    y = with_moments([1.0, 0, 0], np.diag([1.0, 1, 16]), count=70, seed=1)
    assert frechet(x, y) == pytest.approx(4 + 9 + 1 + 4 + 9, rel=1e-9)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_gaussians_with_axes_of_their_own():
    """For 2 x 2 matrices tr (AB)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))."""
    a, b = np.array([[2.0, 0.5], [0.5, 1]]), np.array([[1.0, -0.8], [-0.8, 3]])
    product = a @ b
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    distance = frechet(with_moments([0, 0], a), with_moments([3, 4], b, seed=1))
    assert distance == pytest.approx(25 + np.trace(a) + np.trace(b) - 2 * root, rel=1e-9)


def test_frechet_distance_of_fewer_images_than_features():
    x, y = torch.randn(5, 40), torch.randn(6, 40)
    assert 0 < frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-6)


def test_kernel_distance_as_defined(monkeypatch):
    monkeypatch.setattr("mlcli.methods.generation.fid_kid.ROWS", 3)
    x, y = torch.randn(7, 4, dtype=torch.float64), 1 + torch.randn(5, 4, dtype=torch.float64)

    def k(a, b):
        return (float(a @ b) / 4 + 1) ** 3

    xx = np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kernel(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-9)


def test_kernel_distance_has_no_bias_and_the_frechet_distance_has_one():
    torch.manual_seed(0)
    pairs = [torch.randn(2, 30, 8) for _ in range(200)]
    estimates = torch.tensor([kernel(*pair) for pair in pairs])
    assert estimates.mean().abs() < 3 * estimates.std() / 200**0.5
    assert min(frechet(*pair) for pair in pairs) > 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_the_last_hidden_layer(channels):
    torch.manual_seed(0)
    model = registry.create("cifarnet", ("a", "b"), 16, channels)
    model.network.eval()
    features = Features(model, PLAIN)
    images = torch.randint(0, 256, (5, channels, 16, 16), dtype=torch.uint8)
    expected = Activations(model, ["features"])(images)["features"]
    assert features.layer == "features"
    torch.testing.assert_close(features(images, batch_size=2), expected)


def test_gray_images_of_another_size_are_brought_to_what_the_model_sees():
    model = registry.load("cifarnet")
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    prepared = torch.stack([model.preprocessing.prepare(p.expand(3, -1, -1)) for p in images])
    torch.testing.assert_close(Features(model, PLAIN)(images), Features(model, PLAIN)(prepared))
    assert prepared.shape == (3, 3, 32, 32)

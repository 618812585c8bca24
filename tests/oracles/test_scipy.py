"""What stays our own beside SciPy's: intervals, exact tests, connected components, the Gaussian blur, Riccati."""

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage, stats

from mlcli.methods.control.linear_quadratic import linearized, regulator, riccati
from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.transfer import STUDENT, summary
from mlcli.methods.evaluation.classification import wilson
from mlcli.methods.evaluation.significance import bootstrap, mcnemar
from mlcli.methods.generation.fid_kid import frechet
from mlcli.methods.synthesis.paired_degradations import blur, components


@pytest.mark.parametrize("successes, count", [(0, 10), (3, 10), (10, 10), (937, 1000)])
def test_wilsons_interval(successes, count):
    expected = stats.binomtest(successes, count).proportion_ci(method="wilson")
    assert wilson(successes, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("first, second", [(3, 9), (0, 5), (6, 6), (40, 71)])
def test_mcnemars_test(first, second):
    one = torch.tensor([1.0] * first + [0.0] * second + [1.0] * 4)
    two = torch.tensor([0.0] * first + [1.0] * second + [1.0] * 4)
    expected = stats.binomtest(first, first + second).pvalue
    assert mcnemar(one, two)["p"] == pytest.approx(expected)


def test_the_bootstrap_interval():
    values = torch.rand(60, generator=torch.Generator().manual_seed(0)).double()
    expected = stats.bootstrap((values.numpy(),), np.mean, n_resamples=9999, method="percentile", rng=0)
    assert bootstrap(values) == pytest.approx(tuple(expected.confidence_interval), abs=0.01)


def test_the_frechet_distance_by_the_root_of_the_product():
    """The formula as it is printed, with the root of a matrix that is not symmetric."""
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 12, generator=random), 1.3 * torch.randn(150, 12, generator=random) + 0.2
    m_x, m_y = x.double().mean(0).numpy(), y.double().mean(0).numpy()
    c_x, c_y = (np.cov(each.double().numpy(), rowvar=False) for each in (x, y))
    expected = ((m_x - m_y) ** 2).sum() + np.trace(c_x + c_y - 2 * linalg.sqrtm(c_x @ c_y).real)
    assert frechet(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("diagonal", [False, True])
def test_connected_components(diagonal):
    mask = torch.rand(40, 60, generator=torch.Generator().manual_seed(1)) < 0.45
    expected, count = ndimage.label(mask.numpy(), np.ones((3, 3)) if diagonal else None)
    ours = components(mask, diagonal=diagonal)
    assert int(ours.max()) + 1 == count
    assert len({*zip(ours[mask].tolist(), expected[mask.numpy()].tolist(), strict=True)}) == count, "one to one"


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_the_gaussian_blur(sigma):
    image = torch.rand(3, 30, 40, generator=torch.Generator().manual_seed(2))
    radius = max(1, int(np.ceil(3 * sigma)))
    expected = ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma), mode="nearest", radius=(0, radius, radius))
    assert np.allclose(blur(image, sigma).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_riccati_equation(seed):
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(3, n, generator=random, dtype=torch.float64) for n in (3, 2))
    half, r = torch.randn(3, 3, generator=random, dtype=torch.float64), torch.eye(2, dtype=torch.float64) * 0.3
    q = half @ half.T
    expected = linalg.solve_discrete_are(*(each.numpy() for each in (a, b, q, r)))
    assert riccati(a, b, q, r).numpy() == pytest.approx(expected, rel=1e-9)


def test_the_regulator_of_a_pendulum():
    pendulum = Pendulum(mass=2.0, length=0.5, damping=0.3)
    a, b = linearized(pendulum)
    q, r = np.diag([1, pendulum.velocity_weight]), np.array([[pendulum.torque_weight]])
    x = linalg.solve_discrete_are(a.numpy(), b.numpy(), q, r)
    gain = np.linalg.solve(r + b.numpy().T @ x @ b.numpy(), b.numpy().T @ x @ a.numpy())
    assert regulator(pendulum).rule.gain.numpy() == pytest.approx(gain[0], rel=1e-9)


def test_students_interval():
    assert stats.t.ppf(0.975, range(1, len(STUDENT) + 1)) == pytest.approx(STUDENT, abs=6e-4)
    values = [1.0, 4.0, 2.5, 3.0]
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert summary(values)["interval"] == pytest.approx([low, high], rel=1e-3)

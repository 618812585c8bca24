import pytest
import torch

from mlcli.errors import DataError
from mlcli.methods.control.equations import simulate, starts
from mlcli.methods.control.identification import identify, seen
from mlcli.methods.control.model_based import random_torques
from mlcli.methods.control.pendulum import Pendulum
from mlcli.runtime.random_streams import rng


def episode(pendulum, seed, noise=0.0):
    torques = iter(random_torques(pendulum, seed, 0))
    begin = starts(pendulum, "swing-up", 1, rng(seed, "tests"))
    episodes = simulate(pendulum, lambda angle, velocity: next(torques).expand(1), *begin)
    return seen(episodes, pendulum.max_speed, noise, rng(seed, "tests/noise"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("pendulum", [Pendulum(), Pendulum(8, 4, 9.81, 60, 3.0), Pendulum(max_speed=2.5)])
def test_one_episode_tells_the_coefficients(pendulum, seed):
    """In the last one the velocity is clipped most of the time."""
    found = identify(episode(pendulum, seed), pendulum)
    same = found.pendulum(pendulum, pendulum.gravity)
    assert (same.mass, same.length) == pytest.approx((pendulum.mass, pendulum.length), rel=1e-9)
    assert same.damping == pytest.approx(pendulum.damping, abs=1e-9) and found.residual < 1e-9


def test_noise_is_averaged():
    pendulum = Pendulum()
    errors = []
    for seed in range(8):
        found = identify(episode(pendulum, seed, noise=0.01), pendulum)
        assert found.residual == pytest.approx(0.08, rel=0.35)
        errors.append([abs(found.gravity / 15 - 1), abs(found.motor / 3 - 1)])
    gravity, motor = torch.tensor(errors).mean(0)
    assert gravity < 0.005 and motor < 0.05


def test_episodes_that_do_not_tell():
    pendulum = Pendulum(max_torque=1e-3)
    silent = simulate(pendulum, lambda angle, velocity: angle * 0, torch.zeros(1).double(), torch.zeros(1).double())
    with pytest.raises(DataError, match="cannot be identified"):
        identify(seen(silent, 8.0, 0.0, rng(0, "tests")), pendulum)

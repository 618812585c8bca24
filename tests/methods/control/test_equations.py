from dataclasses import replace

import pytest
import torch

from mlcli.methods.control.equations import (
    advance,
    energy,
    evaluated,
    observation,
    simulate,
    starts,
    state,
    wrapped,
)
from mlcli.methods.control.pendulum import Pendulum
from mlcli.runtime.random_streams import rng


def resting(angle, velocity):
    return torch.zeros_like(angle)


@pytest.mark.parametrize("mass, length, gravity", [(1, 1, 10), (8, 4, 1.6)])
def test_energy_is_kept_without_torque_and_damping(mass, length, gravity):
    """The method of integration is symplectic: the energy stays within a part of order of the time step."""
    pendulum = Pendulum(mass, length, gravity, time_step=5e-3 / (gravity / length) ** 0.5, max_speed=1e9)
    random = rng(0, "tests")
    angle, velocity = torch.rand(2, 20, generator=random, dtype=torch.float64).unbind()
    episodes = simulate(pendulum, resting, angle * 3, velocity * pendulum.frequency, steps=3000)
    energies = energy(pendulum, episodes.angles, episodes.velocities)
    assert ((energies - energies[0]).abs() / pendulum.weight_torque).max() < 1e-2
    damped = simulate(replace(pendulum, damping=pendulum.weight_torque / 9), resting, angle * 3, velocity, steps=800)
    later = energy(pendulum, damped.angles, damped.velocities)
    assert (later[-1] < later[0]).all()


def test_one_state_many_torques():
    angle, velocity, reward = advance(Pendulum(), torch.zeros(3), torch.zeros(1), torch.tensor([[-5.0], [0.0], [1.0]]))
    assert angle.shape == velocity.shape == (3, 3) and reward.shape == (3, 3)
    assert velocity[:, 0].tolist() == pytest.approx([-0.3, 0.0, 0.15])  # of which the first is clipped


def test_observations_and_states():
    angle, velocity = torch.tensor([-3.0, 0.0, 3.1]), torch.tensor([1.0, -2.0, 8.0])
    found, same = state(observation(angle + 4 * torch.pi, velocity))
    assert torch.allclose(found, angle, atol=1e-5) and torch.equal(same, velocity)
    assert torch.allclose(wrapped(angle - 4 * torch.pi), angle, atol=1e-5)


@pytest.mark.parametrize("task, angle, speed", [("swing-up", torch.pi, 1.0), ("balance", 0.1, 0.2)])
def test_starts_fill_their_range(task, angle, speed):
    angles, velocities = starts(Pendulum(), task, 2000, rng(0, "tests"))
    assert angles.abs().max().item() == pytest.approx(angle, rel=0.01)
    assert velocities.abs().max().item() == pytest.approx(speed, rel=0.01)


def test_what_is_told_of_episodes():
    pendulum = Pendulum()
    episodes = evaluated(pendulum, resting, "balance", 4, 0)
    assert episodes.returns.shape == (4,) and episodes.fallen == 1.0 and 0 < episodes.upright < 0.5
    assert torch.equal(evaluated(pendulum, resting, "balance", 4, 0).returns, episodes.returns)

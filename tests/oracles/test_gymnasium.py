"""The equations of the pendulum beside gymnasium's Pendulum-v1."""

import math

import numpy as np
import pytest
import torch

from mlcli.api.load_policy import ObservationPolicy
from mlcli.methods.control.equations import advance, observation
from mlcli.methods.control.pendulum import STEPS, Pendulum
from mlcli.methods.control.policies import Linear, Policy

gymnasium = pytest.importorskip("gymnasium")


@pytest.fixture
def environment():
    return gymnasium.make("Pendulum-v1")


@pytest.mark.parametrize(
    "parameters", [{}, {"gravity": 9.81}, {"mass": 3.0, "length": 0.7, "gravity": 1.62, "max_torque": 5.0}]
)
def test_each_step_is_that_of_gymnasium(environment, parameters):
    pendulum, bare = Pendulum(**parameters), environment.unwrapped
    bare.m, bare.l, bare.g, bare.max_torque = (
        pendulum.mass,
        pendulum.length,
        pendulum.gravity,
        pendulum.max_torque,
    )
    random = np.random.default_rng(0)
    for episode in range(5):
        environment.reset(seed=episode)
        angle, velocity = torch.tensor(bare.state).unbind()
        for _ in range(STEPS):
            torque = random.uniform(-1.5, 1.5) * pendulum.max_torque  # some beyond the bound
            if random.random() < 0.1:
                bare.state = np.array([random.uniform(-9, 9), random.choice([-8.0, 8.0, 7.9])])
                angle, velocity = torch.tensor(bare.state).unbind()
            seen, reward, *_ = bare.step(np.array([torque]))
            angle, velocity, own = advance(pendulum, angle, velocity, torch.tensor(torque, dtype=torch.float64))
            assert [angle.item(), velocity.item()] == pytest.approx(list(bare.state), abs=1e-12)
            assert own.item() == pytest.approx(float(reward), abs=1e-12)
            assert observation(angle, velocity).numpy() == pytest.approx(seen, abs=1e-6)  # gymnasium's is float32
            angle, velocity = torch.tensor(bare.state).unbind()


def test_a_policy_takes_what_gymnasium_shows_and_gives_what_it_takes(environment):
    policy = ObservationPolicy(Policy(Linear(torch.tensor([19.7, 5.3], dtype=torch.float64)), Pendulum()))
    seen, _ = environment.reset(seed=0, options={"x_init": 0.1, "y_init": 0.1})
    for _ in range(STEPS):
        torque = policy(seen)
        assert environment.action_space.contains(torque.astype("float32"))
        seen, _, _, truncated, _ = environment.step(torque)
    assert truncated and math.atan2(seen[1], seen[0]) == pytest.approx(0, abs=1e-3)

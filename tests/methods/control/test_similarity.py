"""The scaling law: a scaled policy has the same returns on every similar pendulum."""

import math
import random
from dataclasses import replace

import pytest
import torch

from mlcli.methods.control.configs import Planning
from mlcli.methods.control.dynamic_programming import plan
from mlcli.methods.control.equations import evaluated
from mlcli.methods.control.linear_quadratic import regulator
from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.policies import Network, Policy
from mlcli.methods.control.similarity import BY_BOUND, BY_WEIGHT, best_scaling, groups, scaled, similar
from mlcli.networks.actor_critic import Actor

COARSE = Planning(angles=60, velocities=41, torques=5)


def policies(pendulum):
    torch.manual_seed(0)
    return {
        "table": plan(pendulum, COARSE).policy,
        "linear": regulator(pendulum),
        "network": Policy(Network(Actor(16), pendulum.frequency, pendulum.max_torque), pendulum),
    }


@pytest.mark.parametrize("form", ["table", "linear", "network"])
@pytest.mark.parametrize("mass, length, gravity", [(8, 4, 10), (0.5, 0.25, 10), (2, 1, 40)])
def test_powers_of_two_have_the_same_bits(form, mass, length, gravity):
    small = Pendulum(damping=0.25)
    large = small.similar(mass, length, gravity)
    policy = policies(small)[form]
    one = evaluated(small, policy, "swing-up", 20)
    other = evaluated(large, scaled(policy, large), "swing-up", 20)
    assert torch.equal(one.angles, other.angles) and torch.equal(one.returns, other.returns)
    assert similar(small, large)


@pytest.mark.parametrize("seed", range(12))
def test_the_returns_are_equal_for_random_parameters(seed):
    chance = random.Random(seed)

    def factor():
        return math.exp(chance.uniform(-3, 3))

    small = Pendulum(factor(), factor(), factor(), damping=chance.choice([0, 0.1]))
    small = replace(small, max_torque=small.weight_torque * chance.uniform(0.1, 2))
    small = replace(small, time_step=0.1 / small.frequency, max_speed=3 * small.frequency)
    large = small.similar(small.mass * factor(), small.length * factor(), small.gravity * factor())
    assert all(group.equal for group in groups(small, large))
    for policy in policies(small).values():
        one = evaluated(small, policy, "balance", 20, seed)
        other = evaluated(large, scaled(policy, large), "balance", 20, seed)
        assert other.returns.mean().item() == pytest.approx(one.returns.mean().item(), rel=1e-6)


def test_one_policy_carried_twice_is_carried_once():
    small = Pendulum()
    middle, large = small.similar(3, 0.7, 10), small.similar(0.2, 5, 3)
    policy = regulator(small)
    twice, once = scaled(scaled(policy, middle), large), scaled(policy, large)
    assert (twice.velocity_factor, twice.torque_factor) == pytest.approx((once.velocity_factor, once.torque_factor))


def test_off_similarity_the_better_unit_is_chosen():
    small = Pendulum()
    policy = plan(small, COARSE).policy
    same = best_scaling(policy, small.similar(8, 4, 10), "swing-up")
    assert same.unit == BY_WEIGHT and same.expected == {}
    stronger = replace(small.similar(8, 4, 10), max_torque=128.0)
    chosen = best_scaling(policy, stronger, "swing-up")
    assert chosen.unit == BY_BOUND and chosen.expected[BY_BOUND] > chosen.expected[BY_WEIGHT]
    (torque, damping, *others) = groups(small, stronger)
    assert torque.ratio == pytest.approx(2) and not torque.equal and damping.equal and all(o.equal for o in others)
    assert not similar(small, stronger) and not similar(small, replace(small, damping=0.1))
    assert groups(small, replace(small, damping=0.1))[1].ratio is None

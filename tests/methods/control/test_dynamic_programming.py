import torch

from mlcli.methods.control.configs import Planning
from mlcli.methods.control.dynamic_programming import plan
from mlcli.methods.control.equations import evaluated, simulate
from mlcli.methods.control.pendulum import Pendulum

COARSE = Planning(angles=100, velocities=81, torques=11)


def test_the_optimum_swings_up_from_everywhere():
    pendulum = Pendulum()
    found = plan(pendulum, COARSE)
    episodes = evaluated(pendulum, found.policy, "swing-up", 200)
    assert -145 < episodes.returns.mean() < -125 and episodes.upright > 0.8
    hanging = simulate(pendulum, found.policy, torch.tensor([torch.pi]).double(), torch.zeros(1).double())
    assert hanging.returns.item() > -400


def test_the_values_are_the_returns():
    pendulum = Pendulum()
    found = plan(pendulum, COARSE)
    angles, velocities = (each[::9, ::9].reshape(-1) for each in found.grid.points())
    returns = simulate(pendulum, found.policy, angles, velocities).returns
    values = found.values[::9, ::9].reshape(-1).double()
    assert (returns - values).abs().median() < 5


def test_the_table_is_odd_and_the_values_are_even():
    found = plan(Pendulum(damping=0.2), COARSE)
    table = found.policy.rule.torques
    opposite = table[1:].flip(0, 1)  # without hanging, which is its own opposite
    inner = torch.ones(len(opposite), dtype=torch.bool)
    inner[len(opposite) // 2] = False  # nor upright, where both torques can be as good
    assert torch.equal(opposite[inner], -table[1:][inner])
    assert torch.equal(found.values[1:].flip(0, 1)[inner], found.values[1:][inner])


def test_plans_of_similar_pendulums_have_the_same_bits():
    small = Pendulum()
    large = small.similar(8, 4, 10)
    one, other = plan(small, COARSE), plan(large, COARSE)
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.policy.rule.torques * 32, other.policy.rule.torques)

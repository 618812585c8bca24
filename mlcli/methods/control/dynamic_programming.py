"""The optimum by dynamic programming (Bellman 1957): value iteration on a grid of angles and velocities.

    V'(state) = max over torques of reward(state, torque) + V(next state)

begun at 0 and repeated once for each step of an episode, without a discount. Values between the points of the grid are
interpolated linearly. The policy is the table of the best torques; between points they are interpolated too.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mlcli.methods.control.configs import Planning
from mlcli.methods.control.equations import advance
from mlcli.methods.control.grids import Grid
from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.policies import Policy, Table


@dataclass(frozen=True)
class Plan:
    """What dynamic programming found. values: (A, V), the return that is left from each state.  policy: a table."""

    grid: Grid
    values: Tensor
    policy: Policy


@lru_cache(maxsize=8)
def plan(pendulum: Pendulum, config: Planning = Planning()) -> Plan:  # noqa: B008  it is frozen
    """The optimal policy of a pendulum whose parameters are known, or of one that was identified.

    Computes in float32, whose rounding is far below the error of the grid. The last plans are kept, for a table and a
    report ask for the same ones.
    """
    grid = Grid(config.angles, config.velocities, pendulum.max_speed)
    angles, velocities = grid.points()
    torques = _torques(config.torques, pendulum.max_torque)
    # The opposite state has the opposite torque and the same value, so the angles from 0 to π suffice
    half_circle = [*range(config.angles // 2, config.angles), 0]
    upper = angles[half_circle], velocities[half_circle]
    next_angle, next_velocity, reward = advance(pendulum, *upper, torques[:, None, None])
    indices, weights = grid.corners(next_angle, next_velocity)
    flat_indices = [each.reshape(-1).int() for each in indices]
    flat_weights = [each.reshape(-1).float() for each in weights]
    rewards = reward.reshape(-1).float()
    values = torch.zeros(config.angles, config.velocities)
    for _ in range(config.sweeps):
        totals, flat = rewards.clone(), values.reshape(-1)
        for index, weight in zip(flat_indices, flat_weights, strict=True):
            totals.addcmul_(flat.index_select(0, index), weight)
        totals = totals.view(config.torques, -1, config.velocities)
        values = _whole(totals.amax(0))
    table = _whole(torques[totals.argmax(0)], -1)
    return Plan(grid, values, Policy(Table(table, pendulum.max_speed), pendulum))


def _torques(count: int, most: float) -> Tensor:
    """(count,) from -most to most, of which those of similar pendulums differ by a factor alone, to the bit."""
    half = count // 2
    return (torch.arange(count, dtype=torch.float64) - half) * (most / half)


def _whole(upper: Tensor, sign: int = 1) -> Tensor:
    """The table (A, V) of the whole circle from its rows (A / 2 + 1, V) for the angles from 0 to π.

    sign: what a value is multiplied by at the opposite angle and velocity, 1 or -1.
    """
    opposite = upper[1:-1].flip(0, 1) * sign
    return torch.cat([upper[-1:], opposite, upper[:-1]])

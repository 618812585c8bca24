"""The least torque that swings a pendulum up within an episode."""

from dataclasses import replace

import torch
from torch import Tensor

from mlcli.methods.control.equations import advance
from mlcli.methods.control.pendulum import STEPS, Pendulum

TRIED = 64  # torques at a time
ROUNDS = 3  # each of which divides the interval by TRIED


def swings_up(pendulum: Pendulum, torques: Tensor) -> Tensor:
    """Which of the greatest torques (N,) bring a hanging pendulum beyond upright within an episode.

    The motor pushes with all its torque in the direction of the motion, which adds the most energy at each moment.
    """
    angle = torch.full_like(torques, torch.pi)
    velocity = torch.zeros_like(torques)
    beyond = torch.zeros_like(torques, dtype=torch.bool)
    unbounded = replace(pendulum, max_torque=float(torques.max()))
    for _ in range(STEPS):
        torque = torch.where(velocity < 0, -torques, torques)
        angle, velocity, _ = advance(unbounded, angle, velocity, torque)
        beyond |= (angle <= 0) | (angle >= 2 * torch.pi)
    return beyond


def least_torque(pendulum: Pendulum) -> float:
    """The least torque in N m that suffices, to a part in 100,000 of m g l."""
    low, high = 0.0, 2 * pendulum.weight_torque
    while not swings_up(pendulum, torch.tensor([high], dtype=torch.float64)):
        high *= 2  # with strong damping
        if high > 1e12 * pendulum.weight_torque:
            return float("inf")
    for _ in range(ROUNDS):
        torques = torch.linspace(low, high, TRIED, dtype=torch.float64)
        enough = swings_up(pendulum, torques)
        first = int(enough.int().argmax())
        low, high = float(torques[max(0, first - 1)]), float(torques[first])
    return high

"""Identification of the equations of a pendulum from episodes, by least squares.

The velocity is linear in three coefficients, with its sums over the steps s before t:

    velocity_t = velocity_0 + a dt Σ sin(angle_s) + b dt Σ torque_s - c dt Σ velocity_s

where a = 3 g / (2 l), b = 3 / (m l²) and c = b damping. In this form, noise of the observed velocities is that of the
left side, and the sums on the right average it; differences of velocities would amplify it. Where the velocity meets
its bound the equation does not hold, so a new piece with a constant of its own begins behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlcli.errors import DataError
from mlcli.methods.control.equations import Episodes, observation
from mlcli.methods.control.pendulum import Pendulum

NEAR_BOUND = 0.95  # of the greatest speed, from which on a velocity may have been clipped
SHORTEST = 3  # steps of a piece


@dataclass(frozen=True)
class Seen:
    """What is seen of an episode. observations: (T + 1, 3).  torques: (T,)."""

    observations: Tensor
    torques: Tensor


@dataclass(frozen=True)
class Coefficients:
    """gravity: a in 1/s².  motor: b in 1/(kg m²).  friction: c in 1/s, at least 0.  residual: of velocities, rad/s."""

    gravity: float
    motor: float
    friction: float
    residual: float

    def pendulum(self, known: Pendulum, gravity: float) -> Pendulum:
        """The pendulum with these coefficients, under this gravity.

        known: whose time step, bounds and weights of the reward are known; its mass, length and damping are not read.
        """
        length = 1.5 * gravity / self.gravity
        mass = 3 / (self.motor * length**2)
        return replace(known, mass=mass, length=length, gravity=gravity, damping=self.friction / self.motor)


def seen(episodes: Episodes, max_speed: float, noise: float, random: torch.Generator) -> list[Seen]:
    """The observations of episodes with noise of this fraction of their ranges: 1, 1 and the greatest speed."""
    found = []
    for angles, velocities, torques in zip(episodes.angles.T, episodes.velocities.T, episodes.torques.T, strict=True):
        clean = observation(angles, velocities)
        scale = noise * torch.tensor([1.0, 1.0, max_speed], dtype=torch.float64)
        found.append(Seen(clean + scale * torch.randn(clean.shape, generator=random, dtype=torch.float64), torques))
    return found


def identify(episodes: Sequence[Seen], pendulum: Pendulum) -> Coefficients:
    """The coefficients that fit these episodes best. pendulum: whose time step and greatest speed are known.

    Raises DataError where the episodes do not tell, as of a motor without torque.
    """
    step = pendulum.time_step
    columns, targets = [], []
    for episode in episodes:
        velocity = episode.observations[:, 2]
        terms = torch.stack([episode.observations[:-1, 1], episode.torques, -velocity[:-1]], -1) * step
        clipped = (velocity[1:].abs() > NEAR_BOUND * pendulum.max_speed).nonzero().flatten().tolist()
        for first, last in zip([-1, *clipped], [*clipped, len(terms)], strict=True):
            # from the state after the clipped step to the last one before the next
            piece = terms[first + 1 : last]
            if len(piece) >= SHORTEST:
                sums = torch.cat([torch.zeros(1, 3, dtype=torch.float64), piece.cumsum(0)])
                observed = velocity[first + 1 : first + 1 + len(sums)]
                columns.append(sums - sums.mean(0))
                targets.append(observed - observed.mean())
    if not columns:
        raise DataError("the velocity is always at its bound, from which the equations cannot be identified")
    matrix, target = torch.cat(columns), torch.cat(targets)
    solution = torch.linalg.lstsq(matrix, target[:, None], driver="gelsd").solution[:, 0]
    residual = (matrix @ solution - target).square().mean().sqrt().item()
    a, b, c = solution.tolist()
    if not (a > 0 and b > 0):
        raise DataError("the equations cannot be identified from these episodes; take more of them, or a larger torque")
    return Coefficients(a, b, max(c, 0.0), residual)

"""The equations of gymnasium's Pendulum-v1, simulated in batches in float64.

    velocity' = velocity + (3 g / (2 l) sin(angle) + 3 / (m l²) (torque - damping velocity)) time_step
    angle' = angle + velocity' time_step

The angle is 0 upright and π hanging. Torque and velocity are clipped to their bounds; gymnasium has no damping.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcli.methods.control.pendulum import STEPS, Pendulum
from mlcli.runtime.random_streams import rng

# Of the angle and the velocity, as tensors of one shape, the torque
Control = Callable[[Tensor, Tensor], Tensor]
UPRIGHT = 0.2  # rad, up to which a pendulum counts as upright
FALLEN = math.pi / 2  # rad, from which on a balanced pendulum has fallen
START_ANGLES = {"swing-up": math.pi, "balance": 0.1}  # rad, of the starts at most
START_SPEEDS = {"swing-up": 1 / 8, "balance": 1 / 40}  # of the greatest speed; 1 rad/s is gymnasium's


def wrapped(angle: Tensor) -> Tensor:
    """The angle in [-π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def advance(pendulum: Pendulum, angle: Tensor, velocity: Tensor, torque: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One time step: (angle, velocity, reward), each of the common shape of the arguments. Angles are not wrapped."""
    p = pendulum
    torque = torque.clamp(-p.max_torque, p.max_torque)
    cost = wrapped(angle) ** 2 + p.velocity_weight * velocity**2 + p.torque_weight * torque**2
    gravity = 3 * p.gravity / (2 * p.length) * angle.sin()
    motor = 3.0 / (p.mass * p.length**2) * (torque - p.damping * velocity)
    velocity = (velocity + (gravity + motor) * p.time_step).clamp(-p.max_speed, p.max_speed)
    return angle + velocity * p.time_step, velocity, -cost


def energy(pendulum: Pendulum, angle: Tensor, velocity: Tensor) -> Tensor:
    """Kinetic and potential energy of the rod in J, 0 at rest and horizontal."""
    inertia = pendulum.mass * pendulum.length**2 / 3
    return inertia / 2 * velocity**2 + pendulum.weight_torque / 2 * angle.cos()


def observation(angle: Tensor, velocity: Tensor) -> Tensor:
    """What gymnasium shows of states (...,): cos(angle), sin(angle) and the velocity, (..., 3)."""
    return torch.stack([angle.cos(), angle.sin(), velocity], -1)


def state(observations: Tensor) -> tuple[Tensor, Tensor]:
    """(angle in [-π, π], velocity) of observations (..., 3)."""
    return torch.atan2(observations[..., 1], observations[..., 0]), observations[..., 2]


def starts(pendulum: Pendulum, task: str, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """(angles, velocities), each (count,), uniform between the bounds of a task and similar for similar pendulums."""
    angle, velocity = (torch.rand(2, count, generator=random, dtype=torch.float64) * 2 - 1).unbind()
    return START_ANGLES[task] * angle, START_SPEEDS[task] * pendulum.max_speed * velocity


@dataclass(frozen=True)
class Episodes:
    """Simulated episodes, each a column. angles, velocities: (STEPS + 1, N).  torques, rewards: (STEPS, N)."""

    angles: Tensor
    velocities: Tensor
    torques: Tensor
    rewards: Tensor

    @property
    def returns(self) -> Tensor:
        """The sums of the rewards, (N,)."""
        return self.rewards.sum(0)

    @property
    def upright(self) -> float:
        """The fraction of all steps in which the pendulum is upright."""
        return (wrapped(self.angles[1:]).abs() < UPRIGHT).double().mean().item()

    @property
    def fallen(self) -> float:
        """The fraction of the episodes in which the pendulum falls below the horizontal."""
        return (wrapped(self.angles).abs() > FALLEN).any(0).double().mean().item()


@torch.no_grad()
def simulate(pendulum: Pendulum, control: Control, angle: Tensor, velocity: Tensor, steps: int = STEPS) -> Episodes:
    """Episodes of a policy from these starts, (N,) each. The torques are what the policy asks for, clipped."""
    angles, velocities, torques, rewards = [angle], [velocity], [], []
    for _ in range(steps):
        torque = control(angle, velocity).clamp(-pendulum.max_torque, pendulum.max_torque)
        angle, velocity, reward = advance(pendulum, angle, velocity, torque)
        angles.append(angle)
        velocities.append(velocity)
        torques.append(torque)
        rewards.append(reward)
    return Episodes(*(torch.stack(each) for each in (angles, velocities, torques, rewards)))


def evaluated(pendulum: Pendulum, control: Control, task: str, count: int, seed: int = 0) -> Episodes:
    """`count` episodes from starts that are the same for every policy, and similar for every pendulum."""
    return simulate(pendulum, control, *starts(pendulum, task, count, rng(seed, "pendulum/evaluation")))

"""How similar two pendulums are, and how a policy is scaled from one to the other (Girard 2024).

In units of the frequency ω = √(g / l) and of the torque m g l, the equations of all pendulums are one equation, whose
coefficients are the dimensionless groups. Where the groups are equal, a policy scaled by these units is as good on the
other pendulum as on its own, exactly. Where they are not, there is more than one way to scale the torque.
"""

import math
from dataclasses import dataclass

from mlcli.methods.control.equations import evaluated
from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.policies import Policy

TOLERANCE = 1e-9  # of the relative difference of a group, up to which two are equal
BY_WEIGHT, BY_BOUND = "m g l", "max torque"
COMPARED = 200  # simulated episodes by which a scaling is chosen


@dataclass(frozen=True)
class Group:
    """A dimensionless group of two pendulums."""

    name: str
    small: float
    large: float

    @property
    def ratio(self) -> float | None:
        """The large one's in units of the small one's; None where that is 0 and this is not."""
        if self.small == 0:
            return 1.0 if self.large == 0 else None
        return self.large / self.small

    @property
    def equal(self) -> bool:
        return self.ratio is not None and abs(self.ratio - 1) <= TOLERANCE


@dataclass(frozen=True)
class Scaling:
    """A policy on another pendulum. unit: of the torque.  expected: the mean simulated return; None if not needed."""

    policy: Policy
    unit: str
    expected: dict[str, float]


def groups(small: Pendulum, large: Pendulum) -> list[Group]:
    """The dimensionless groups of both pendulums."""
    others = large.groups()
    return [Group(name, value, others[name]) for name, value in small.groups().items()]


def similar(small: Pendulum, large: Pendulum) -> bool:
    """Whether all groups are equal, up to rounding."""
    return all(group.equal for group in groups(small, large))


def scaled(policy: Policy, large: Pendulum, unit: str = BY_WEIGHT) -> Policy:
    """A policy on another pendulum, the velocities in units of ω and the torques in this unit."""
    small = policy.pendulum
    factors = {
        BY_WEIGHT: large.weight_torque / small.weight_torque,
        BY_BOUND: large.max_torque / small.max_torque,
    }
    return policy.on(large, small.frequency / large.frequency, factors[unit])


def best_scaling(policy: Policy, large: Pendulum, task: str, seed: int = 0) -> Scaling:
    """The better of both units of the torque, by simulated episodes of the large pendulum; by weight if they agree.

    large: as it is known; simulating it takes no episode of the real one.
    """
    ways = {unit: scaled(policy, large, unit) for unit in (BY_WEIGHT, BY_BOUND)}
    weight, bound = (way.torque_factor for way in ways.values())
    if math.isclose(weight, bound, rel_tol=TOLERANCE):
        return Scaling(ways[BY_WEIGHT], BY_WEIGHT, {})
    expected = {unit: evaluated(large, way, task, COMPARED, seed).returns.mean().item() for unit, way in ways.items()}
    best = max(expected, key=lambda unit: expected[unit])
    return Scaling(ways[best], best, expected)

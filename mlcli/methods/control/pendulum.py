"""The parameters of a pendulum, and the dimensionless groups that decide whether two are similar. Free of torch."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

STEPS = 200  # of an episode


@dataclass(frozen=True)
class Pendulum:
    """A rod on an axle with a motor; the defaults are those of gymnasium's Pendulum-v1.

    mass in kg, length in m, gravity in m/s², torques in N m, damping in N m s, time_step in s, speeds in rad/s.
    The reward of a step is -(angle² + velocity_weight velocity² + torque_weight torque²).
    """

    mass: float = 1.0
    length: float = 1.0
    gravity: float = 10.0
    max_torque: float = 2.0
    damping: float = 0.0
    time_step: float = 0.05
    max_speed: float = 8.0
    velocity_weight: float = 0.1
    torque_weight: float = 0.001

    @property
    def frequency(self) -> float:
        """ω = √(g / l) in 1/s, the unit of velocities."""
        return math.sqrt(self.gravity / self.length)

    @property
    def weight_torque(self) -> float:
        """m g l in N m, the unit of torques: the rod held horizontally needs half of it."""
        return self.mass * self.gravity * self.length

    @property
    def seconds(self) -> float:
        """The time that an episode takes."""
        return STEPS * self.time_step

    def groups(self) -> dict[str, float]:
        """The dimensionless groups of the equations (Buckingham's Π). Two pendulums are similar where all are equal."""
        return {
            "max torque / (m g l)": self.max_torque / self.weight_torque,
            "damping ω / (m g l)": self.damping * self.frequency / self.weight_torque,
            "time step ω": self.time_step * self.frequency,
            "max speed / ω": self.max_speed / self.frequency,
        }

    def similar(self, mass: float, length: float, gravity: float) -> "Pendulum":
        """The pendulum of this mass, length and gravity that is similar to this one.

        Its time step, bounds, damping and weights of the reward follow from the groups, so that returns are equal.
        """
        other = Pendulum(mass, length, gravity)
        slower, stronger = self.frequency / other.frequency, other.weight_torque / self.weight_torque
        return replace(
            other,
            max_torque=self.max_torque * stronger,
            damping=self.damping * slower * stronger,
            time_step=self.time_step * slower,
            max_speed=self.max_speed / slower,
            velocity_weight=self.velocity_weight * slower**2,
            torque_weight=self.torque_weight / stronger**2,
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

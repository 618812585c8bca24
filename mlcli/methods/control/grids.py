"""A grid of angles and velocities, and linear interpolation between its points."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """`angles` points around the circle, and `velocities` points from -max_speed to max_speed.

    With an even number of angles both upright and hanging are points; with an odd number of velocities rest is.
    """

    angles: int
    velocities: int
    max_speed: float

    def points(self) -> tuple[Tensor, Tensor]:
        """(angles, velocities) of the points, (A, V) each."""
        angles = (torch.arange(self.angles, dtype=torch.float64) - self.angles // 2) * (2 * math.pi / self.angles)
        velocities = torch.arange(self.velocities, dtype=torch.float64) - self.velocities // 2
        step = 2 * self.max_speed / (self.velocities - 1)
        both = torch.meshgrid(angles, velocities * step, indexing="ij")
        return both[0], both[1]

    def corners(self, angle: Tensor, velocity: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The four points around each state, as indices of the flat grid, and their weights, which add up to 1."""
        x = torch.remainder(angle / (2 * math.pi / self.angles) + self.angles // 2, self.angles)
        left = x.floor()
        right_part = x - left
        left = left.long() % self.angles  # the remainder of a tiny negative number is rounded up to the divisor
        y = velocity / (2 * self.max_speed / (self.velocities - 1)) + self.velocities // 2
        low = y.floor().clamp(0, self.velocities - 2)
        high_part = (y - low).clamp(0, 1)
        low = low.long()
        first, second = left * self.velocities + low, (left + 1) % self.angles * self.velocities + low
        weights = [
            (1 - right_part) * (1 - high_part),
            (1 - right_part) * high_part,
            right_part * (1 - high_part),
            right_part * high_part,
        ]
        return [first, first + 1, second, second + 1], weights

    def interpolate(self, table: Tensor, angle: Tensor, velocity: Tensor) -> Tensor:
        """The values of a table (A, V) at states, in float64."""
        indices, weights = self.corners(angle, velocity)
        flat = table.double().reshape(-1)
        return sum((flat[i] * w for i, w in zip(indices, weights, strict=True)), torch.zeros_like(angle))

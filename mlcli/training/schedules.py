"""Schedules of the learning rate: factors of its base value, as functions of (step, number of steps)."""

import math
from collections.abc import Callable


def one_cycle(step: int, steps: int, *, warm: float = 0.25, first: float = 0.1) -> float:
    """Linear from `first` to 1 over the fraction `warm` of the steps, then linear to 0."""
    position = step / steps
    return first + (1 - first) * position / warm if position < warm else (1 - position) / (1 - warm)


def cosine(step: int, steps: int, *, warm: float = 0.05, first: float = 0.1) -> float:
    """Linear from `first` to 1 over the fraction `warm` of the steps, then half a cosine to 0."""
    position = step / steps
    if position < warm:
        return first + (1 - first) * position / warm
    return 0.5 * (1 + math.cos(math.pi * (position - warm) / (1 - warm)))


def linear(step: int, steps: int, *, hold: float = 0.5) -> float:
    """1 for the fraction `hold` of the steps, then linear to 0 (100 + 100 epochs of CycleGAN, Zhu et al. 2017)."""
    return min(1.0, (1 - step / steps) / (1 - hold))


def stepped(step: int, steps: int, *, stairs: int = 4, factor: float = 0.1) -> float:
    """Constant on each of `stairs` equal parts of the steps, and multiplied by `factor` from one part to the next."""
    return factor ** (step * stairs // steps)


def constant(step: int, steps: int) -> float:
    """Always 1."""
    return 1.0


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "one-cycle": one_cycle,
    "cosine": cosine,
    "linear": linear,
    "step": stepped,
    "constant": constant,
}

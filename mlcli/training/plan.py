"""The plan of a training: how many steps, which images in each, and how often to log, measure and save."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlcli.runtime.random_streams import rng


@dataclass
class Plan:
    """The length of a training, and the intervals at which it reports.

    `items` and `batch_size` set the epoch: items // batch_size steps; the remainder of each permutation is left out.
    `log_every`, `sample_every` and `evaluate_every` are in steps, `save_every` in seconds. Where `sample_every` or
    `evaluate_every` is None, samples are drawn, or figures measured, at the end of each epoch.
    """

    items: int
    batch_size: int
    epochs: int
    seed: int
    log_every: int = 20
    save_every: float = 60.0
    sample_every: int | None = None
    evaluate_every: int | None = None
    max_steps: int | None = None
    prefetch: int = 2
    _epoch: int = field(default=-1, init=False, repr=False, compare=False)  # whose permutation `_order` is
    _order: Tensor = field(default_factory=lambda: torch.empty(0), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, self.items)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch."""
        return max(1, self.items // self.batch_size)

    @property
    def steps(self) -> int:
        """Number of steps in the whole training."""
        total = self.steps_per_epoch * self.epochs
        return min(total, self.max_steps) if self.max_steps else total

    def samples_after(self, step: int) -> bool:
        """Whether samples are drawn after this number of steps."""
        return step == self.steps or step % (self.sample_every or self.steps_per_epoch) == 0

    def evaluates_after(self, step: int) -> bool:
        """Whether figures are measured after this number of steps."""
        return step == self.steps or step % (self.evaluate_every or self.steps_per_epoch) == 0

    def indices(self, step: int) -> Tensor:
        """The indices (B,) of the batch of a step: a new permutation in each epoch, a function of (seed, step)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch != epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.items, generator=rng(self.seed, "training/order", epoch))
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]

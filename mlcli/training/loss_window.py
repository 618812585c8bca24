"""Means of the losses between two lines of the log."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mlcli.runtime.processes import Processes


class LossWindow:
    """Means of the losses since the last logged line; saved with the state, so that a resumed run logs the same.

    A step may lack some of the losses; the mean of a loss is over the steps that have it.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.unlogged: list[tuple[int, dict[str, float]]] = []  # lines that could not be written, for the resumed run

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one step, each a scalar."""
        for name, value in losses.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counts.update(losses.keys())

    def empty(self) -> dict[str, Tensor]:
        """The means of the losses; the window begins again."""
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, Counter()
        return means

    def synchronize(self, processes: Processes) -> None:
        """Replace the sums by their mean over the processes, so that the state that one process saves serves all."""
        self.sums = {name: processes.mean(total) for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums, "counts": dict(self.counts), "unlogged": self.unlogged}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.sums, self.counts = dict(state["sums"]), Counter(state["counts"])
        self.unlogged = list(state.get("unlogged", ()))  # states of earlier versions have none

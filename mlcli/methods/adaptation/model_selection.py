"""Choosing a checkpoint without target labels: criteria on the predictions for target images, and the checkpoints.

A criterion takes probabilities p (N, K), or (N, K, H, W) of a segmenter, and returns a number: the larger, the better.
Those here need nothing else; `reverse`, which also needs images, is `AdaptationContext.criteria`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.errors import RunError, WeightsError
from mlcli.models import artifacts
from mlcli.models.fitting import fill
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng

PIXELS_PER_MAP = 64  # that a criterion sees of each map
DENSITY_ROWS = 2000  # images that the neighborhood density compares with each other, at most


def rows(p: Tensor) -> Tensor:
    """(N, K) unchanged; of maps (N, K, H, W) random pixels, at the same positions in every map: (n, K)."""
    if p.ndim == 4:
        pixels = p.flatten(2)
        shown = torch.randperm(pixels.shape[2], generator=rng(0, "model-selection/pixels"))[:PIXELS_PER_MAP]
        p = pixels[:, :, shown].movedim(1, 2).flatten(0, 1)
    return p.double()


def entropy(p: Tensor) -> Tensor:
    """H(p) = -sum_k p_k log p_k of each row."""
    return -torch.xlogy(p, p).sum(-1)


def information_maximization(p: Tensor) -> float:
    """I(x; y) = H(E p) - E H(p): confident predictions, of all classes (Bridle et al. 1991; Shi and Sha 2012)."""
    p = rows(p)
    return (entropy(p.mean(0)) - entropy(p).mean()).item()


def certainty(p: Tensor) -> float:
    """-E H(p). It prefers predictions that have collapsed onto one class, which `im` does not."""
    return -entropy(rows(p)).mean().item()


def soft_neighborhood_density(p: Tensor, temperature: float = 0.05) -> float:
    """Mean entropy of the softmax over each image's similarities to the others (Saito et al. 2021, eq. 2 and 3)."""
    p = rows(p)
    p = torch.nn.functional.normalize(p[:: max(1, len(p) // DENSITY_ROWS)], dim=1)
    similar = p @ p.T / temperature
    similar.fill_diagonal_(float("-inf"))
    return entropy(similar.softmax(1)).mean().item()


Criterion = Callable[[Tensor], float]
CRITERIA: dict[str, Criterion] = {
    "im": information_maximization,
    "snd": soft_neighborhood_density,
    "entropy": certainty,
}


class Candidates:
    """Checkpoints of a network in files, each with its criterion; part of a method's `state`.

    select: the criterion, one of `criteria`, or "last".
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        select: str,
        processes: Processes,
        criteria: Mapping[str, Criterion] = CRITERIA,
    ) -> None:
        self.folder, self.network, self.select, self.processes = folder, network, select, processes
        self.criteria = criteria
        self.scores: dict[int, float] = {}

    def add(self, step: int, p: Tensor) -> dict[str, float]:
        """Keep the network as it is after `step` steps. p: its predictions for target images. Returns all criteria."""
        figures = {name: criterion(p) for name, criterion in self.criteria.items()}
        self.scores[step] = figures.get(self.select, float(step))
        if self.processes.main:
            artifacts.save(self._file(step), self.network.state_dict(), {"kind": "candidate", "step": step})
        return figures

    @property
    def last(self) -> int:
        return max(self.scores)

    @property
    def chosen(self) -> int:
        """The step with the best criterion; of equal ones the latest."""
        return max(self.scores, key=lambda step: (self.scores[step], step))

    def restore(self, step: int) -> None:
        """Give the network the weights that it had after `step` steps."""
        try:
            tensors = artifacts.read(self._file(step)).tensors
        except WeightsError as error:
            raise RunError(f"{error}; start the run from scratch with --overwrite") from None
        fill(self.network, tensors, self._file(step))

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scores = {int(step): float(score) for step, score in state["scores"].items()}

"""Choosing the result without target labels: criteria on the answers for target images, and what they choose among.

A criterion takes probabilities p (N, K), or (N, K, H, W) of a segmenter, and gives a number that is larger the better.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mlcli.errors import RunError, WeightsError
from mlcli.models.weight_files import fill, read_tensors
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng
from mlcli.training.run_folder import save_tensors

SHOWN_PIXELS, SHOWN_ROWS = 64, 2000


def rows(p: Tensor) -> Tensor:
    """(N, K) as it is; of maps (N, K, H, W) some pixels, drawn once for all, (n, K)."""
    if p.ndim == 4:
        pixels = p.flatten(2)
        shown = torch.randperm(pixels.shape[2], generator=rng(0, "model-selection/pixels"))[:SHOWN_PIXELS]
        p = pixels[:, :, shown].movedim(1, 2).flatten(0, 1)
    return p.double()


def entropy(p: Tensor) -> Tensor:
    """H(p) = -sum_k p_k log p_k of each row."""
    return -torch.xlogy(p, p).sum(-1)


def information_maximization(p: Tensor) -> float:
    """I(x; y) = H(E p) - E H(p): sure answers, of all classes (Bridle et al. 1991; Shi and Sha 2012)."""
    p = rows(p)
    return (entropy(p.mean(0)) - entropy(p).mean()).item()


def certainty(p: Tensor) -> float:
    """-E H(p). Answers that have collapsed onto one class are the surest of all: `im` minds that."""
    return -entropy(rows(p)).mean().item()


def soft_neighborhood_density(p: Tensor, temperature: float = 0.05) -> float:
    """Mean entropy of the softmax over each image's similarities to the others (Saito et al. 2021, eq. 2 and 3)."""
    p = rows(p)
    p = torch.nn.functional.normalize(p[:: max(1, len(p) // SHOWN_ROWS)], dim=1)
    similar = p @ p.T / temperature
    similar.fill_diagonal_(float("-inf"))
    return entropy(similar.softmax(1)).mean().item()


CRITERIA: dict[str, Callable[[Tensor], float]] = {
    "im": information_maximization,
    "snd": soft_neighborhood_density,
    "entropy": certainty,
}


class Candidates:
    """A network at several moments of its training, in files, each with its criterion; part of a method's `state`.

    select: of CRITERIA, or "last".
    """

    def __init__(self, folder: Path, network: nn.Module, select: str, processes: Processes):
        self.folder, self.network, self.select, self.processes = folder, network, select, processes
        self.scores: dict[int, float] = {}

    def add(self, step: int, p: Tensor) -> dict[str, float]:
        """The network as it is after `step` steps, by its answers p for target images; returns the figures."""
        figures = {name: criterion(p) for name, criterion in CRITERIA.items()}
        self.scores[step] = figures.get(self.select, float(step))
        if self.processes.main:
            save_tensors(self._file(step), self.network.state_dict(), {"kind": "candidate", "step": step})
        return figures

    @property
    def last(self) -> int:
        return max(self.scores)

    @property
    def chosen(self) -> int:
        """The step with the best criterion; of equals the later."""
        return max(self.scores, key=lambda step: (self.scores[step], step))

    def restore(self, step: int) -> None:
        """Give the network the weights that it had after `step` steps."""
        try:
            tensors, _ = read_tensors(self._file(step))
        except WeightsError as error:
            raise RunError(f"{error}; begin the run again with --overwrite") from None
        fill(self.network, tensors, self._file(step))

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"

    def state_dict(self) -> dict:
        return {"scores": self.scores}

    def load_state_dict(self, state: dict) -> None:
        self.scores = {int(step): float(score) for step, score in state["scores"].items()}

"""How faithful a map is: how the answer goes as what is important by the map is deleted, and comes as it is inserted.

Deletion and insertion (Petsiuk et al. 2018) of cells of the image, as in region perturbation (Samek et al. 2017), since
single pixels make patterns that no photograph has, to which networks respond as well. Deleted cells become gray (the
mean of the training data), inserted ones replace those of the blurred image. The area under the curve is the mean
strength of the answer; where the map is faithful, it is small for deletion and large for insertion.

Two maps that know nothing of the network are measured beside it: a random order of the cells, and one from the center,
where photographers put what they photograph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.methods.synthesis.paired_degradations import blur
from mlcli.runtime.random_streams import rng

CELLS = 14  # along each side, at most
CELL = 4  # pixels, the least side of a cell
STEPS = 14  # points of a curve, besides its beginning
BLUR = 1 / 16  # standard deviation of the blur, as a fraction of the image's side


@dataclass(frozen=True)
class Curves:
    """The strength of the answer after so much is deleted, or inserted, from none to all."""

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def areas(self) -> tuple[float, float]:
        """Of deletion and of insertion, by the trapezoidal rule."""
        return area(self.deletion), area(self.insertion)

    @property
    def score(self) -> float:
        """Insertion less deletion: the larger, the more faithful."""
        deleted, inserted = self.areas
        return inserted - deleted

    def as_json(self) -> dict[str, Any]:
        deleted, inserted = self.areas
        return {
            "deletion": deleted,
            "insertion": inserted,
            "deletion_curve": list(self.deletion),
            "insertion_curve": list(self.insertion),
        }


def area(curve: tuple[float, ...]) -> float:
    """Under a curve over even steps from 0 to 1."""
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


def curves(image: Tensor, order: Tensor, strength: Callable[[Tensor], Tensor]) -> Curves:
    """image: normalized (C, H, W). order: the numbers of the cells, the most important one first.

    strength: of the answer, of images (N, C, H, W) -> (N,).
    """
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    side = round(len(order) ** 0.5)
    ranks = F.interpolate(rank.view(1, 1, side, side).float(), image.shape[1:], mode="nearest")[0]
    counts = torch.linspace(0, len(order), STEPS + 1, device=image.device).round()
    chosen = (ranks < counts[:, None, None, None]).float()  # (steps, 1, H, W)
    blurred = blur(image.cpu(), BLUR * max(image.shape[1:])).to(image.device)
    deletion = strength(image * (1 - chosen))
    insertion = strength(blurred + chosen * (image - blurred))
    return Curves(tuple(deletion.tolist()), tuple(insertion.tolist()))


def by_importance(importance: Tensor) -> Tensor:
    """The cells in the order of their mean importance, of a map (H, W)."""
    side = cells(importance.shape[0])
    return F.adaptive_avg_pool2d(importance[None], side).flatten().argsort(descending=True, stable=True)


def at_random(image: Tensor, seed: int) -> Tensor:
    """The cells in an order that depends on the image (C, H, W) and the seed alone."""
    number = int(image.double().abs().sum().item() * 1000)
    return torch.randperm(cells(image.shape[1]) ** 2, generator=rng(seed, "faithfulness/random", number))


def from_center(side: int) -> Tensor:
    """The cells in the order of their distance from the center of an image of this side."""
    line = torch.linspace(-1, 1, cells(side)).square()
    return (line[:, None] + line).flatten().argsort(stable=True)


def cells(side: int) -> int:
    """How many cells there are along the side of an image."""
    return max(1, min(CELLS, side // CELL))

"""Both domains in the plane: features before and after the adaptation, by their first two principal components."""

from collections.abc import Sequence

import torch
from torch import Tensor

COLORS = torch.tensor([[0.23, 0.49, 0.85], [0.93, 0.49, 0.13]])  # source blue, target orange


def principal_components(features: Tensor, components: int = 2) -> Tensor:
    """(N, F) -> (N, components): coordinates along the directions of largest variance (Pearson 1901).

    The sign of a direction is arbitrary; the coordinate of largest absolute value is made positive.
    """
    centered = (features - features.mean(0)).double()
    u, s, _ = torch.linalg.svd(centered, full_matrices=False)
    points = u[:, :components] * s[:components]
    return points * points.gather(0, points.abs().argmax(0, keepdim=True)).sign()


def scatter(points: Tensor, groups: Tensor, size: int = 360) -> Tensor:
    """Points (N, 2) as squares on white, colored by their group (N,): an image (3, size, size) in [0, 1].

    The points are drawn in random order, so that neither group covers the other.
    """
    low, high = points.amin(0), points.amax(0)
    positions = ((points - low) / (high - low).clamp_min(1e-9) * (size - 9) + 4).long()
    image = torch.ones(3, size, size)
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    for number in order.tolist():
        x, y = positions[number].tolist()
        image[:, size - 1 - y - 1 : size - 1 - y + 2, x - 1 : x + 2] = COLORS[int(groups[number])][:, None, None]
    return image


def before_and_after(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """[(source features, target features) before, and after] -> (3, h, w): one panel of `scatter` for each pair."""
    panels = []
    for source, target in pairs:
        groups = torch.cat([torch.zeros(len(source)), torch.ones(len(target))])
        points = principal_components(torch.cat([source, target]))
        panels += [scatter(points, groups), torch.full((3, 360, 4), 0.6)]
    return torch.cat(panels[:-1], 2)

"""Both domains in the plane: features before and after the adaptation, by their first two principal components."""

import torch
from PIL.Image import Image
from torch import Tensor


def principal_components(features: Tensor, components: int = 2) -> Tensor:
    """(N, F) -> (N, components): coordinates along the directions of largest variance (Pearson 1901).

    The sign of a direction is arbitrary; the coordinate of largest absolute value is made positive.
    """
    centered = (features - features.mean(0)).double()
    u, s, _ = torch.linalg.svd(centered, full_matrices=False)
    points = u[:, :components] * s[:components]
    return points * points.gather(0, points.abs().argmax(0, keepdim=True)).sign()


def before_and_after(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> Image:
    """Features (N, F) of (source, target) images, each pair in a scatter plot along its own principal components."""
    from mlcli.reporting import charts  # loads matplotlib, which only the process that writes the image needs

    panels = []
    for title, (source, target) in (("before adaptation", before), ("after adaptation", after)):
        points = principal_components(torch.cat([source, target]))
        groups = points.split([len(source), len(target)])
        panels.append((title, [charts.PointGroup(n, p) for n, p in zip(("source", "target"), groups, strict=True)]))
    return charts.to_image(charts.scatter_chart(panels, "first principal component", "second principal component"))

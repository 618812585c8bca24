"""Both domains in the plane: features before and after the adaptation, by their first two principal components."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHOD = (
    "Features of the images before the last layer, in the plane of their first two principal components, which are "
    "computed of both domains together and of each plot alone. {} source and {} target images."
)


class Plane(NamedTuple):
    """The points (N, 2) of the images of two domains."""

    title: str
    source: Tensor
    target: Tensor


def principal_components(features: Tensor, components: int = 2) -> Tensor:
    """(N, F) -> (N, components): coordinates along the directions of largest variance (Pearson 1901).

    The sign of a direction is arbitrary; the coordinate of largest absolute value is made positive.
    """
    centered = (features - features.mean(0)).double()
    u, s, _ = torch.linalg.svd(centered, full_matrices=False)
    points = u[:, :components] * s[:components]
    return points * points.gather(0, points.abs().argmax(0, keepdim=True)).sign()


def before_and_after(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> list[Plane]:
    """Features (N, F) of (source, target) images, each pair along its own principal components."""
    planes = []
    for title, (source, target) in (("before adaptation", before), ("after adaptation", after)):
        points = principal_components(torch.cat([source, target]))
        planes.append(Plane(title, *points.split([len(source), len(target)])))
    return planes


def chart(planes: Sequence[Plane]) -> "Figure":
    """A scatter plot of each plane, with one legend."""
    from mlcli.reporting import charts  # loads matplotlib, which only the process that draws needs

    panels = [
        (title, [charts.PointGroup("source", source), charts.PointGroup("target", target)])
        for title, source, target in planes
    ]
    return charts.scatter_chart(panels, "first principal component", "second principal component")


def as_json(planes: Sequence[Plane]) -> list[dict[str, Any]]:
    """The points with four significant digits, as `from_json` reads them."""

    def listed(points: Tensor) -> list[list[float]]:
        return [[float(f"{value:.4g}") for value in point] for point in points.tolist()]

    return [{"title": each.title, "source": listed(each.source), "target": listed(each.target)} for each in planes]


def from_json(entries: Sequence[dict[str, Any]]) -> list[Plane]:
    """The planes that `as_json` has written."""
    return [
        Plane(entry["title"], *(torch.tensor(entry[name], dtype=torch.float64) for name in ("source", "target")))
        for entry in entries
    ]

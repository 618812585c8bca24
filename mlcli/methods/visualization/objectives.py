"""Objectives of activation maximization: weighted sums of units, layers, penalties and diversity, in batches.

Sources: Erhan et al. 2009 (a unit), Mordvintsev et al. 2015 (a whole layer), Olah et al. 2017 (the rest).
`objective_parser.parse` makes objectives from text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.errors import UsageError
from mlcli.models.structure.features import SIGNED
from mlcli.models.structure.graph import Layer, steps

WARM_UP = 16  # first steps, in which the gradient passes the ReLU of a unit that is zero everywhere (as in Lucid)


# -- penalties ---------------------------------------------------------------------------------------------


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of vertical neighbors plus that of horizontal ones: (N, C, H, W) in [0, 1] to (N,)."""
    down, across = images.diff(dim=2).abs(), images.diff(dim=3).abs()
    return down.flatten(1).mean(1) + across.flatten(1).mean(1)


def blur(images: Tensor) -> Tensor:
    """Mean squared difference, (N,), between images (N, C, H, W) and their 3 x 3 binomial blur.

    The blurred image is a constant for the gradient, as in Lucid.
    """
    line = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 3, 3)
    smooth = F.conv2d(F.pad(images.detach(), (1, 1, 1, 1), mode="replicate"), kernel, groups=len(kernel))
    return (images - smooth).square().flatten(1).mean(1)


# From images (N, C, H, W) in [0, 1] to (N,). l1 and l2 measure the distance from mid-gray.
PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "tv": total_variation,
    "l1": lambda images: (images - 0.5).abs().flatten(1).mean(1),
    "l2": lambda images: (images - 0.5).square().flatten(1).mean(1),
    "blur": blur,
}


def diversity(maps: Tensor, groups: Tensor) -> Tensor:
    """Mean cosine similarity between the Gram matrix of an image's maps and those of the other images in its group.

    maps: (N, C, positions). groups: (N,). Returns (N,): 1 where all are equal, 0 for the only image of a group.
    """
    gram = F.normalize((maps @ maps.transpose(1, 2)).flatten(1), dim=1)
    others = (groups[:, None] == groups).float().fill_diagonal_(0)
    return (gram @ gram.T * others).sum(1) / others.sum(1).clamp_min(1)


# -- terms ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """One term of an objective.

    kind: 'unit', 'negative' (the negative part of a unit), 'layer', 'diversity', or the name of a penalty.
    position: (column, row) in the map, () for its center; None for the mean over all positions.
    A unit or layer is read after its activation function. A ReLU6 is read without its upper limit, as a ReLU.
    """

    text: str
    kind: str
    layer: Layer | None = None
    unit: int = 0
    position: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms."""

    terms: tuple[tuple[float, Term], ...]

    def __str__(self) -> str:
        text = ""
        for factor, term in self.terms:
            sign = (" - " if text else "-") if factor < 0 else " + " if text else ""
            text += sign + ("" if abs(factor) == 1 else f"{abs(factor):.3g}*") + term.text
        return text


def interpolation(a: Objective, b: Objective, frames: int) -> list[Objective]:
    """Objectives (1 - t) a + t b, with t in even steps from 0 to 1."""

    def frame(t: float) -> Objective:
        return Objective(
            tuple(((1 - t) * f, term) for f, term in a.terms) + tuple((t * f, term) for f, term in b.terms)
        )

    return [frame(index / (frames - 1)) for index in range(frames)]


class Batch:
    """The objectives of a batch of images, one for each image, computed together.

    groups: (N,), the group of each image. `diversity` compares the images of a group.
    """

    def __init__(self, objectives: Sequence[Objective], groups: Sequence[int], device: torch.device):
        n = len(objectives)
        self.device, self.groups = device, torch.tensor(groups, device=device)
        # Terms that differ in their units alone are computed together. The key counts the equal terms of an objective.
        # The value is one of the terms, whether the factors are negative, factors (N,) and units (N,).
        slots: dict[tuple[Any, ...], tuple[Term, bool, list[float], list[int]]] = {}
        for index, objective in enumerate(objectives):
            seen: dict[tuple[Any, ...], int] = {}
            for factor, term in objective.terms:
                key = term.kind, term.layer and term.layer.address, term.position, factor < 0
                seen[key] = seen.get(key, 0) + 1
                slot = slots.setdefault((key, seen[key]), (term, factor < 0, [0.0] * n, [0] * n))
                slot[2][index], slot[3][index] = factor, term.unit
        self.slots = [
            (term, negative, torch.tensor(factors, device=device), torch.tensor(units, device=device))
            for term, negative, factors, units in slots.values()
        ]

    @property
    def addresses(self) -> list[str]:
        """Addresses of the layers to compute."""
        terms = [(term.kind, term.layer.address) for term, *_ in self.slots if term.layer]
        plain = [address for _, address in terms]
        return list(dict.fromkeys(plain + [address + SIGNED for kind, address in terms if kind != "diversity"]))

    def check_positions(self, values: Mapping[str, Tensor]) -> None:
        """Raise UsageError where a term names a position outside its layer's map in these activations."""
        for term, *_ in self.slots:
            if term.position and term.layer:
                _, _, height, width = _channels_first(values[term.layer.address], term.layer).shape
                column, row = term.position
                if column >= width or row >= height:
                    raise UsageError(
                        f"{term.text}: the map of {term.layer.address} has the columns 0 to {width - 1} and the rows "
                        f"0 to {height - 1} at this size"
                    )

    def __call__(self, values: Mapping[str, Tensor], images: Tensor, step: int = WARM_UP) -> Tensor:
        """The objectives (N,), float32.

        values: activations (N, ...) by address. images: (N, C, H, W) in [0, 1]. step: index of the optimization step.
        """
        total = torch.zeros(len(images), device=self.device)
        for term, negative, factors, units in self.slots:
            if term.layer is None:
                value = PENALTIES[term.kind](images)
            elif term.kind == "diversity":
                value = diversity(_maps(values[term.layer.address], term.layer).float(), self.groups)
            else:
                value = _activation(values, term, term.layer, units, negative, warm=step < WARM_UP)
            total = total + factors * value
        return total


def _activation(
    values: Mapping[str, Tensor], term: Term, layer: Layer, units: Tensor, negative: bool, warm: bool
) -> Tensor:
    """The value (N,) of a term with a layer. units: (N,), the unit of each image. warm: whether in the first steps."""
    plain = layer.address

    def activations(address: str) -> Tensor:
        # Above 6, a ReLU6 is constant and has no gradient, so the values before it are read.
        unlimited = address == plain and _is_relu6(layer)
        value = values[plain + SIGNED].clamp_min(0) if unlimited else values[address]
        maps = _maps(value, layer, term.position)
        chosen = maps if term.kind == "layer" else maps[torch.arange(len(maps), device=maps.device), units]
        return chosen.float().flatten(1)

    def mean(address: str) -> Tensor:
        found = activations(address)
        return (found.square() if term.kind == "layer" and address == plain else found).mean(1)

    if term.kind == "negative":
        below = -activations(plain + SIGNED)
        value, signed = below.clamp_min(0).mean(1), below.mean(1)
        return value + (value == 0) * (signed - signed.detach()) if warm else value
    if negative and term.kind == "unit":
        return mean(plain + SIGNED)  # after the ReLU a unit could not fall below zero
    value = mean(plain)
    if warm:
        # No gradient passes the ReLU of a unit that is zero everywhere, and its image would never change. So it gets
        # the gradient before the ReLU, with the value left as it is.
        signed = mean(plain + SIGNED)
        value = value + (value == 0) * (signed - signed.detach())
    return value


def _is_relu6(layer: Layer) -> bool:
    """Whether a layer ends with a ReLU6, as a module or a function."""
    parts = steps(layer.module)
    last = parts[-1][1] if parts else None
    return isinstance(getattr(last, "act", last), nn.ReLU6) or layer.kind == "relu6"


def _maps(value: Tensor, layer: Layer, position: tuple[int, ...] | None = None) -> Tensor:
    """The activations of a layer as (N, units, positions). position: as in `Term`; None for all positions."""
    if value.ndim == 2:
        return value[:, :, None]
    value = _channels_first(value, layer)
    if position is None:
        return value.flatten(2)
    height, width = value.shape[2:]
    column, row = position or (width // 2, height // 2)
    return value[:, :, row, column, None]


def _channels_first(value: Tensor, layer: Layer) -> Tensor:
    """The activations with the units in the second dimension; tokens and some transformers' maps have them last."""
    return value.movedim(-1, 1) if value.ndim == 3 or not layer.field.planes else value

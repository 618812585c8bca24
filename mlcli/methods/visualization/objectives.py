"""What an image is to maximize: weighted sums of units, layers, penalties and diversity, many images at once.

Sources: Erhan et al. 2009 (a unit), Mordvintsev et al. 2015 (a whole layer), Olah et al. 2017 (the rest).
`expressions.parse` makes objectives from text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.errors import UsageError
from mlcli.models.features import SIGNED
from mlcli.models.graph import Layer, steps

WARM_UP = 16  # steps in which gradient is let through the ReLU of a unit that is silent everywhere (as in Lucid)


# -- of images ---------------------------------------------------------------------------------------------


def total_variation(images: Tensor) -> Tensor:
    """(N, C, H, W) in [0, 1] -> (N,): mean difference of neighboring pixels, down plus across."""
    down, across = images.diff(dim=2).abs(), images.diff(dim=3).abs()
    return down.flatten(1).mean(1) + across.flatten(1).mean(1)


def blur(images: Tensor) -> Tensor:
    """Mean square of what a binomial blur of 3 x 3 takes away. The blurred image counts as fixed, as in Lucid."""
    line = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 3, 3)
    smooth = F.conv2d(F.pad(images.detach(), (1, 1, 1, 1), mode="replicate"), kernel, groups=len(kernel))
    return (images - smooth).square().flatten(1).mean(1)


# (N, C, H, W) in [0, 1] -> (N,). l1 and l2 measure the distance from middle gray.
PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "tv": total_variation,
    "l1": lambda images: (images - 0.5).abs().flatten(1).mean(1),
    "l2": lambda images: (images - 0.5).square().flatten(1).mean(1),
    "blur": blur,
}


def diversity(maps: Tensor, groups: Tensor) -> Tensor:
    """Mean cosine between the Gram matrix of an image's maps and those of the other images in its group.

    maps: (N, C, places). groups: (N,). Returns (N,): 1 where all are alike, 0 for an image that is alone.
    """
    gram = F.normalize((maps @ maps.transpose(1, 2)).flatten(1), dim=1)
    others = (groups[:, None] == groups).float().fill_diagonal_(0)
    return (gram @ gram.T * others).sum(1) / others.sum(1).clamp_min(1)


# -- terms ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """One thing to maximize.

    kind: 'unit', 'negative' (what of a unit is below zero), 'layer', 'diversity', or the name of a penalty. place:
    (column, row) of the map, () for its middle; None for the mean over all. The values of a unit or layer are those
    behind its activation function; of a ReLU6, before it and cut at zero, as those of a ReLU would be.
    """

    text: str
    kind: str
    layer: Layer | None = None
    unit: int = 0
    place: tuple[int, ...] | None = None


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
    """Objectives (1 - t) a + t b with t from 0 to 1."""

    def frame(t: float) -> Objective:
        return Objective(
            tuple(((1 - t) * f, term) for f, term in a.terms) + tuple((t * f, term) for f, term in b.terms)
        )

    return [frame(index / (frames - 1)) for index in range(frames)]


class Batch:
    """The objectives of a batch of images, one for each, computed together.

    groups: (N,) images with the same number belong together, for `diversity`.
    """

    def __init__(self, objectives: Sequence[Objective], groups: Sequence[int], device: torch.device):
        n = len(objectives)
        self.device, self.groups = device, torch.tensor(groups, device=device)
        # Terms that differ in their units alone are computed at once. (what, number among its like) -> a term of the
        # kind, whether its factors are negative, factors (N,), units (N,)
        slots: dict[tuple, tuple[Term, bool, list[float], list[int]]] = {}
        for index, objective in enumerate(objectives):
            seen: dict[tuple, int] = {}
            for factor, term in objective.terms:
                what = term.kind, term.layer and term.layer.address, term.place, factor < 0
                seen[what] = seen.get(what, 0) + 1
                slot = slots.setdefault((what, seen[what]), (term, factor < 0, [0.0] * n, [0] * n))
                slot[2][index], slot[3][index] = factor, term.unit
        self.slots = [
            (term, negative, torch.tensor(factors, device=device), torch.tensor(units, device=device))
            for term, negative, factors, units in slots.values()
        ]

    @property
    def addresses(self) -> list[str]:
        """The layers to compute."""
        terms = [term for term, *_ in self.slots if term.layer]
        plain = [term.layer.address for term in terms]
        return list(dict.fromkeys(plain + [t.layer.address + SIGNED for t in terms if t.kind != "diversity"]))

    def check_places(self, values: Mapping[str, Tensor]) -> None:
        """Raise UsageError where a term names a place outside the map that its layer has in these activations."""
        for term, *_ in self.slots:
            if term.place:
                _, _, height, width = _planes(values[term.layer.address], term.layer).shape
                column, row = term.place
                if column >= width or row >= height:
                    raise UsageError(
                        f"{term.text}: the map of {term.layer.address} has the columns 0 to {width - 1} and the rows "
                        f"0 to {height - 1} at this size"
                    )

    def __call__(self, values: Mapping[str, Tensor], images: Tensor, step: int = WARM_UP) -> Tensor:
        """Activations by address, (N, ...), and images (N, C, H, W) in [0, 1] -> objectives (N,), float32."""
        total = torch.zeros(len(images), device=self.device)
        for term, negative, factors, units in self.slots:
            if term.kind in PENALTIES:
                value = PENALTIES[term.kind](images)
            elif term.kind == "diversity":
                value = diversity(_maps(values[term.layer.address], term.layer).float(), self.groups)
            else:
                value = _activation(values, term, units, negative, warm=step < WARM_UP)
            total = total + factors * value
        return total


def _activation(values: Mapping[str, Tensor], term: Term, units: Tensor, negative: bool, warm: bool) -> Tensor:
    """(N,): what a unit or layer answers to each image, of the unit of each."""

    def answer(address: str) -> Tensor:
        # Past the end of a ReLU6 there is no gradient, and all values are alike: what it is given tells more.
        beyond = address == plain and _ends(term.layer)
        value = values[plain + SIGNED].clamp_min(0) if beyond else values[address]
        maps = _maps(value, term.layer, term.place)
        chosen = maps if term.kind == "layer" else maps[torch.arange(len(maps), device=maps.device), units]
        return chosen.float().flatten(1)

    def mean(address: str) -> Tensor:
        return (answer(address).square() if term.kind == "layer" and address == plain else answer(address)).mean(1)

    plain = term.layer.address
    if term.kind == "negative":
        below = -answer(plain + SIGNED)
        value, signed = below.clamp_min(0).mean(1), below.mean(1)
        return value + (value == 0) * (signed - signed.detach()) if warm else value
    if negative and term.kind == "unit":
        return mean(plain + SIGNED)  # rectified, a unit can fall no lower than nothing
    value = mean(plain)
    if warm:
        # No gradient passes the ReLU of what is silent, and its image would stay as it is. The value does not change,
        # its gradient is that before the ReLU.
        signed = mean(plain + SIGNED)
        value = value + (value == 0) * (signed - signed.detach())
    return value


def _ends(layer: Layer) -> bool:
    """Whether the values of a layer end at 6, by a module or a function that is a ReLU6."""
    *_, (_, last) = steps(layer.module) or [("", None)]
    return isinstance(getattr(last, "act", last), nn.ReLU6) or layer.kind == "relu6"


def _maps(value: Tensor, layer: Layer, place: tuple[int, ...] | None = None) -> Tensor:
    """(N, units, places) of the values of a layer; of one place if it is asked for."""
    if value.ndim == 2:
        return value[:, :, None]
    value = _planes(value, layer)
    if place is None:
        return value.flatten(2)
    height, width = value.shape[2:]
    column, row = place or (width // 2, height // 2)
    return value[:, :, row, column, None]


def _planes(value: Tensor, layer: Layer) -> Tensor:
    """The values with the units second, where they are last: tokens, or maps of some transformers."""
    return value.movedim(-1, 1) if value.ndim == 3 or not layer.reach.planes else value

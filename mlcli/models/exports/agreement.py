"""How far the outputs of an exported file are from those of its original."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlcli.models.exports.subject import CLASSES, PIXELS, Subject

LARGEST_DIFFERENCE = 1e-3  # of a file in fp32: of probabilities, else relative to the largest value of the output
LEAST_AGREEMENT = 0.998  # of a file in fp32

Run = Callable[..., list[Tensor]]


@dataclass(frozen=True)
class Agreement:
    """A file compared with its original.

    measure: what `agreement` is: the fraction of images with the same first class, of pixels with the same class, or
    the correlation of the outputs. A class that the original holds for as probable, within LARGEST_DIFFERENCE, counts
    as the same.  difference: the largest one, of probabilities, or relative to the largest value of an output of
    at least 1.  count: of inputs.  images: whether these were images of a user, or random ones.
    """

    measure: str
    agreement: float
    difference: float
    count: int
    images: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "measure": self.measure,
            "agreement": self.agreement,
            "largest_difference": self.difference,
            "inputs": self.count,
            "real_images": self.images,
        }


def compare(subject: Subject, run: Run, inputs: Iterable[tuple[Tensor, ...]], *, images: bool) -> Agreement:
    """Compare on inputs, each a batch. images: whether they are images of a user."""
    agreements: list[Tensor] = []
    difference = 0.0
    for given in inputs:
        ours, theirs = subject.compute(*given), run(*given)
        for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            if subject.measure in (CLASSES, PIXELS) and number == 0:
                a, b = a.softmax(1), b.softmax(1)
            if number == 0:
                agreements.append(_agreements(subject.measure, a, b))
            apart = (a - b).abs().max() / a.abs().max().clamp_min(1)
            difference = max(difference, float("inf") if apart.isnan() else apart.item())
    each = torch.cat(agreements)
    return Agreement(subject.measure, each.mean().item(), difference, len(each), images)


def _agreements(measure: str, a: Tensor, b: Tensor) -> Tensor:
    """(N,) the agreement of each of a batch."""
    if measure in (CLASSES, PIXELS):
        held = a.gather(1, b.argmax(1, keepdim=True))[:, 0]  # what the original gives the class of the other
        same = (held >= a.amax(1) - LARGEST_DIFFERENCE).double()  # (N,), or (N, H, W)
        return same.reshape(len(same), -1).mean(1)
    x, y = (each.double().flatten(1) - each.double().flatten(1).mean(1, keepdim=True) for each in (a, b))
    return ((x * y).sum(1) + 1e-12) / (x.norm(dim=1) * y.norm(dim=1) + 1e-12)

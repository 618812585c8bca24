"""What a unit looks for, in one row: the appendix of Olah, Mordvintsev, Schubert 2017, Feature Visualization.

Made for the unit: `neuron`, its value in the middle of the map; `positive`, the channel's mean over all places;
`diverse`, four of the channel that are to differ; `negative`, the channel's negative part, before its ReLU. From a data
set: the patches that excite it most, and those it is most against (`top_patches`). The spectrum goes from the negative
image over the patches, rising, to the positive one.

Deviations: the weight of the diversity term is a share of what the channel alone comes to, since values differ from
unit to unit and network to network. The negative image is made for the mean of max(0, -x) in place of that of -x,
which knows of no structure in a first layer, where it is the answer to the mean color. Where a layer has one place, a
neuron and its channel are the same, x itself is to fall, and images differ in the last convolutional stage.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from mlcli.methods.visualization.activation_maximization import maximize
from mlcli.methods.visualization.configs import Maximization
from mlcli.methods.visualization.objectives import Objective, Term
from mlcli.methods.visualization.top_patches import GROUPS
from mlcli.models import features
from mlcli.models.features import SIGNED, Activations
from mlcli.models.graph import Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime

T = TypeVar("T")

DIVERSE = 4
DIVERSITY = 0.25  # the weight of the diversity term, as a share of the channel's value
CALLS = 2  # of `maximize` for some units: the diverse images come after the others


@dataclass(frozen=True)
class Optimized:
    """An image made for a unit.

    image: (C, H, W) uint8. value: of the objective. answer: the unit's, before its ReLU, at the place where it is
    greatest (for `negative`, least), as that of a patch.
    """

    image: Tensor
    objective: str
    value: float
    answer: float


def batches(units: Sequence[int], side: int, batch_size: int | None = None) -> list[list[int]]:
    """The units to optimize together: `batch_size` images of `side` pixels at a time, of each unit four that differ.

    By default 64 images, or fewer large ones, so that memory does not grow with their side.
    """
    together = max(1, (batch_size or min(64, 64 * 64**2 // side**2)) // DIVERSE)
    return [list(units[first : first + together]) for first in range(0, len(units), together)]


def places(layer: Layer) -> int:
    """In how many places of an image a unit of the layer looks."""
    return math.prod(layer.shape[1:]) if layer.is_map else 1


def check(model: Model, layer: Layer, config: Maximization, runtime: Runtime, size: int) -> None:
    """Raise UsageError where images of this size do not suit the layer."""
    objectives = [objective for _, objective in _alone(layer, layer.address, 0)]
    maximize(model, objectives, replace(config, steps=0), runtime, size=size)


def optimize(
    model: Model,
    layer: Layer,
    units: Sequence[int],
    config: Maximization,
    runtime: Runtime,
    *,
    name: str,
    size: int,
    on_step: Callable[[int, float], None] | None = None,
) -> dict[int, dict[str, list[Optimized]]]:
    """unit: what was made for it, `neuron` (of maps alone), `positive`, `negative` and `diverse`.

    The units are optimized as one batch: the same units, in the same order, give the same images. name: of the layer,
    in objectives. on_step(steps done of CALLS * config.steps, mean objective).
    """

    def later(done: int, value: float) -> None:
        if on_step is not None:
            on_step(config.steps + done, value)

    jobs = [(unit, kind, objective) for unit in units for kind, objective in _alone(layer, name, unit)]
    made = maximize(model, [job[2] for job in jobs], config, runtime, size=size, batch_size=len(jobs), on_step=on_step)
    reached = {unit: value for (unit, kind, _), value in zip(jobs, made.values, strict=True) if kind == "positive"}
    differ = _varied(model, layer)
    more = [
        (unit, "diverse", _diverse(layer, name, unit, differ, reached[unit])) for unit in units for _ in range(DIVERSE)
    ]
    others = maximize(
        model,
        [job[2] for job in more],
        config,
        runtime,
        size=size,
        group=DIVERSE,
        batch_size=len(more),
        on_step=later,
    )
    jobs += more
    images, values = torch.cat([made.images, others.images]), made.values + others.values
    extremes = answers(model, layer, [unit for unit, *_ in jobs], images, runtime)
    rows: dict[int, dict[str, list[Optimized]]] = {unit: {} for unit in units}
    for (unit, kind, objective), image, value, (least, greatest) in zip(jobs, images, values, extremes, strict=True):
        one = Optimized(image, str(objective), value, least if kind == "negative" else greatest)
        rows[unit].setdefault(kind, []).append(one)
    return rows


@torch.inference_mode()
def answers(
    model: Model, layer: Layer, units: Sequence[int], images: Tensor, runtime: Runtime
) -> list[tuple[float, float]]:
    """(least, greatest) value over all places, before the ReLU, of one unit for each image; in fp32.

    units: N. images: (N, C, H, W) uint8.
    """
    address = layer.address + SIGNED
    values = Activations(model, [address])(images.to(runtime.device))[address].float()
    own = values[torch.arange(len(values)), list(units)].reshape(len(values), -1)
    return list(zip(own.amin(1).tolist(), own.amax(1).tolist(), strict=True))


def spectrum(groups: Mapping[str, Sequence[T]], each: int) -> list[list[T]]:
    """The patches of a unit (or their tiles) rising from strongly negative to strongly positive, `each` of a group.

    groups: as of methods.visualization.top_patches, each beginning with its strongest.
    """
    rising = []
    for group in reversed(GROUPS):
        strongest = list(groups[group][:each])
        rising.append(strongest if group.endswith("negative") else strongest[::-1])
    return rising


def _alone(layer: Layer, name: str, unit: int) -> list[tuple[str, Objective]]:
    """The kinds of images that need no other of the same unit."""
    text = f"{name}:{unit}"
    channel = Term(text, "unit", layer, unit)
    if places(layer) == 1:
        return [("positive", Objective(((1.0, channel),))), ("negative", Objective(((-1.0, channel),)))]
    terms = {
        "neuron": Term(f"{text}@center", "unit", layer, unit, ()),
        "positive": channel,
        "negative": Term(f"negative({text})", "negative", layer, unit),
    }
    return [(kind, Objective(((1.0, term),))) for kind, term in terms.items()]


def _diverse(layer: Layer, name: str, unit: int, differ: Layer, reached: float) -> Objective:
    """The channel less the likeness, in the layer `differ`, of its images. reached: the channel's value alone."""
    channel = Term(f"{name}:{unit}", "unit", layer, unit)
    likeness = Term(f"diversity({differ.alias or differ.address})", "diversity", differ)
    return Objective(((1.0, channel), (-DIVERSITY * max(0.0, reached), likeness)))


def _varied(model: Model, layer: Layer) -> Layer:
    """The layer in which images of a unit are to differ."""
    stages = [other for other in features.layers(model) if other.alias]
    return layer if places(layer) > 1 or not stages else stages[-1]

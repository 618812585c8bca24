"""An overview of what a unit responds to: the appendix of Olah, Mordvintsev, Schubert 2017, Feature Visualization.

Optimized images of a unit: `neuron` maximizes its value at the center of the map; `positive` the mean of the channel
over all positions; `diverse` the same in four images that differ; `negative` the negative part of the channel before
its ReLU. From a data set come the patches with the strongest positive and negative values (`top_patches`). The spectrum
runs from the negative image over the patches in rising order to the positive image.

Deviations: The weight of the diversity term is a fraction of the value that the channel reaches alone, since values
differ between units and networks. The negative image maximizes the mean of max(0, -x) instead of -x, which in a first
layer is a function of the mean color and gives no structure. In a layer with a single position a neuron and its channel
are the same, `negative` minimizes x itself, and the diverse images differ in the last convolutional stage.
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
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.features import SIGNED, Activations
from mlcli.models.structure.graph import Layer
from mlcli.runtime.device import Runtime

T = TypeVar("T")

DIVERSE = 4  # number of diverse images
DIVERSITY = 0.25  # weight of the diversity term, as a fraction of the channel's value
CALLS = 2  # calls of `maximize` for each batch of units: the diverse images follow the others


@dataclass(frozen=True)
class Optimized:
    """An image optimized for a unit.

    image: (C, H, W) uint8. value: value of the objective. activation: greatest value of the unit over all positions,
    before its ReLU; the least for `negative`. It can be compared with the value of a patch.
    """

    image: Tensor
    objective: str
    value: float
    activation: float


def batches(units: Sequence[int], side: int, batch_size: int | None = None) -> list[list[int]]:
    """The units in batches that are optimized together: `batch_size` images of `side` pixels, DIVERSE for each unit.

    batch_size: default 64 images, fewer of large ones, so that memory does not grow with their side.
    """
    together = max(1, (batch_size or min(64, 64 * 64**2 // side**2)) // DIVERSE)
    return [list(units[first : first + together]) for first in range(0, len(units), together)]


def position_count(layer: Layer) -> int:
    """Number of positions of a layer's map; 1 for a layer that is not a map."""
    return math.prod(layer.shape[1:]) if layer.is_map else 1


def check(model: Model, layer: Layer, config: Maximization, runtime: Runtime, size: int) -> None:
    """Raise UsageError for a size of images that does not suit the layer."""
    objectives = [objective for _, objective in _single_objectives(layer, layer.address, 0)]
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
    """The optimized images by unit and kind: `neuron` (of maps only), `positive`, `negative` and `diverse`.

    The units are optimized as one batch; the same units in the same order give the same images. name: name of the layer
    in the objectives. size: side of the images in pixels.
    on_step(steps done, mean objective) is called after each of CALLS * config.steps steps.
    """

    def on_later_step(done: int, value: float) -> None:
        if on_step is not None:
            on_step(config.steps + done, value)

    jobs = [(unit, kind, objective) for unit in units for kind, objective in _single_objectives(layer, name, unit)]
    single = maximize(
        model, [job[2] for job in jobs], config, runtime, size=size, batch_size=len(jobs), on_step=on_step
    )
    reached = {unit: value for (unit, kind, _), value in zip(jobs, single.values, strict=True) if kind == "positive"}
    compared = _compared_layer(model, layer)
    diverse_jobs = [
        (unit, "diverse", _diverse_objective(layer, name, unit, compared, reached[unit]))
        for unit in units
        for _ in range(DIVERSE)
    ]
    diverse = maximize(
        model,
        [job[2] for job in diverse_jobs],
        config,
        runtime,
        size=size,
        group=DIVERSE,
        batch_size=len(diverse_jobs),
        on_step=on_later_step,
    )
    jobs += diverse_jobs
    images, values = torch.cat([single.images, diverse.images]), single.values + diverse.values
    extremes = extreme_values(model, layer, [unit for unit, *_ in jobs], images, runtime)
    rows: dict[int, dict[str, list[Optimized]]] = {unit: {} for unit in units}
    for (unit, kind, objective), image, value, (least, greatest) in zip(jobs, images, values, extremes, strict=True):
        one = Optimized(image, str(objective), value, least if kind == "negative" else greatest)
        rows[unit].setdefault(kind, []).append(one)
    return rows


@torch.inference_mode()
def extreme_values(
    model: Model, layer: Layer, units: Sequence[int], images: Tensor, runtime: Runtime
) -> list[tuple[float, float]]:
    """The (least, greatest) value over all positions of one unit in each image, before the ReLU, in fp32.

    units: N numbers, one for each image. images: (N, C, H, W) uint8.
    """
    address = layer.address + SIGNED
    values = Activations(model, [address])(images.to(runtime.device))[address].float()
    own = values[torch.arange(len(values)), list(units)].reshape(len(values), -1)
    return list(zip(own.amin(1).tolist(), own.amax(1).tolist(), strict=True))


def spectrum(groups: Mapping[str, Sequence[T]], each: int) -> list[list[T]]:
    """The patches of a unit (or their tiles), rising from strongly negative to strongly positive, `each` of a group.

    groups: as `top_patches` returns them, each beginning with its strongest patch.
    """
    rising = []
    for group in reversed(GROUPS):
        strongest = list(groups[group][:each])
        rising.append(strongest if group.endswith("negative") else strongest[::-1])
    return rising


def _single_objectives(layer: Layer, name: str, unit: int) -> list[tuple[str, Objective]]:
    """(kind, objective) of all kinds of images except the diverse ones."""
    text = f"{name}:{unit}"
    channel = Term(text, "unit", layer, unit)
    if position_count(layer) == 1:
        return [("positive", Objective(((1.0, channel),))), ("negative", Objective(((-1.0, channel),)))]
    terms = {
        "neuron": Term(f"{text}@center", "unit", layer, unit, ()),
        "positive": channel,
        "negative": Term(f"negative({text})", "negative", layer, unit),
    }
    return [(kind, Objective(((1.0, term),))) for kind, term in terms.items()]


def _diverse_objective(layer: Layer, name: str, unit: int, compared: Layer, reached: float) -> Objective:
    """The channel minus the similarity of its images in the layer `compared`.

    reached: the value of the channel when it is optimized alone.
    """
    channel = Term(f"{name}:{unit}", "unit", layer, unit)
    similarity = Term(f"diversity({compared.alias or compared.address})", "diversity", compared)
    return Objective(((1.0, channel), (-DIVERSITY * max(0.0, reached), similarity)))


def _compared_layer(model: Model, layer: Layer) -> Layer:
    """The layer in which the diverse images of a unit are compared."""
    stages = [other for other in features.layers(model) if other.alias]
    return layer if position_count(layer) > 1 or not stages else stages[-1]

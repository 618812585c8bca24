"""How far the layers of a network are from invariance and from equivariance (the terms of Lenc and Vedaldi 2015).

A transformation t moves what an image x shows, and it moves a map in the same way, as an image whose pixels are the
units: (t f)(p) = f(t^-1 p), p a place in the image. Of each layer f, over its units and channels:

    invariance     |f(t(x)) - f(x)| / |f(x)|           nothing changes where t moves the image
    equivariance   |f(t(x)) - t(f(x))| / |t(f(x))|     the map moves as the image does; 0 is best for both

Units stand `stride` pixels apart, so t may ask for values between them. Where it does not (a translation by a multiple
of the stride, a flip of a symmetric grid, a quarter turn) none is interpolated and the comparison is exact; elsewhere,
as in images, the value is bilinear, and interpolating is a part of the error.

Borders. A network pads its maps, and what a unit makes of padding neither moves nor turns. So either the image goes
on beyond its border as in a mirror, so far that no compared unit sees padding (MIRROR); or it goes on as if it were
repeated, and the padding of every layer does the same (CIRCULAR), where it can be moved and flipped, but not turned or
resized. Units that see the whole image, such as logits, see it alone, in MIRROR with the network's own padding.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mlcli.errors import UsageError, out_of_memory
from mlcli.io import image_io
from mlcli.methods.visualization.motion import CIRCULAR, MIRROR, Grid, Motion, motion, moved
from mlcli.models import features
from mlcli.models.features import SIGNED, Activations
from mlcli.models.graph import WHOLE, Layer
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime

LOGITS = "logits"  # the last layer of a classifier
BATCH, SIDE = 16, 224  # images at a time at most, as large as this; fewer that are larger
ROUNDING = 1e-6  # values below it, by their root mean square, are those of an empty image


# -- layers --------------------------------------------------------------------------------------------------


def named_layers(model: Model, names: Sequence[str]) -> dict[str, Layer]:
    """Layers by address or alias as given, `logits` the last one; without names, all stages and the logits."""
    known = features.layers(model)
    if not names:
        stages = {layer.alias: layer for layer in known if layer.alias}
        return stages | ({LOGITS: known[-1]} if model.classes else {})
    found = {}
    for name in names:
        layer = known[-1] if name == LOGITS and model.classes else features.resolve(model, name)
        found[name] = replace(layer, address=layer.address + SIGNED) if name.endswith(SIGNED) else layer
    return found


def is_map(layer: Layer, border: str) -> bool:
    """Whether t acts on the layer: its units stand in a grid and, in a mirror, see no more than a part of it."""
    return layer.is_map and (border == CIRCULAR or WHOLE not in layer.reach)


class GridAlignment(NamedTuple):
    """Where the units of a map stand in an image (side, side), and how far beyond its border they see.

    first: (row, column) of unit (0, 0), the middle of what it sees. beyond: pixels.
    """

    first: tuple[float, float]
    beyond: float

    @classmethod
    def of(cls, layer: Layer, side: int) -> "GridAlignment":
        reach, counts = layer.reach, layer.shape[1:]
        if WHOLE in (reach.height, reach.width):  # an even grid, as good as is known
            return cls(tuple((side - 1 - reach.stride * (n - 1)) / 2 for n in counts), 0)
        first = reach.top + (reach.height - 1) / 2, reach.left + (reach.width - 1) / 2
        ends = [
            start + reach.stride * (n - 1) + length - side
            for start, length, n in zip((reach.top, reach.left), (reach.height, reach.width), counts, strict=True)
        ]
        return cls(first, max(0.0, -reach.top, -reach.left, *ends))


def circular(network: nn.Module) -> nn.Module:
    """A copy of the network in which every padded convolution and pooling wraps around. Raises UsageError.

    Of layers that pad by themselves, as those of TensorFlow's "same" padding, `Wrapping` takes care.
    """
    network = copy.deepcopy(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
        elif getattr(module, "ceil_mode", False):
            raise UsageError(f"--padding circular: {name} pools beyond the border by itself; take --padding mirror")
        elif isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)) and module.padding not in (0, (0, 0)):
            down, across = module.padding if isinstance(module.padding, tuple) else (module.padding,) * 2
            wrapped = nn.Sequential(nn.CircularPad2d((across, across, down, down)), module)
            module.padding = 0
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, wrapped)
    return network


class Wrapping(TorchFunctionMode):
    """While it is entered, `torch.nn.functional.pad` goes on with maps as if they were repeated, whatever it is told.

    timm's Conv2dSame, among others, decides its padding by the size of the map that it is given.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not F.pad:
            return func(*args, **(kwargs or {}))
        values, pad = _pad_arguments(*args, **(kwargs or {}))
        if values.ndim != 4 or len(pad) != 4 or max(pad) <= 0 or min(pad) < 0:  # of channels, or it crops
            return func(*args, **(kwargs or {}))
        return F.pad(values, pad, mode="circular")


def _pad_arguments(input, pad, mode="constant", value=None) -> tuple[Tensor, Sequence[int]]:
    """What `torch.nn.functional.pad` is given, by its own names."""
    return input, pad


# -- the measure ---------------------------------------------------------------------------------------------


@dataclass
class Errors:
    """Relative norms of one layer by amount, summed over images; one of nothing but rounding does not count."""

    count: Tensor
    total: Tensor
    squares: Tensor

    @classmethod
    def none(cls, points: int) -> "Errors":
        return cls(*torch.zeros(3, points, dtype=torch.float64))

    def add(self, point: int, values: Tensor, wanted: Tensor) -> None:
        """|values - wanted| / |wanted| for each image of (N, ...)."""
        norms, errors = (v.flatten(1).norm(dim=1).cpu().double() for v in (wanted, values - wanted))
        something = norms > ROUNDING * wanted.flatten(1).shape[1] ** 0.5
        errors = errors[something] / norms[something]
        self.count[point] += len(errors)
        self.total[point] += errors.sum()
        self.squares[point] += errors.square().sum()

    def mean(self) -> list[float]:
        """By amount; not a number where there was nothing to compare."""
        return (self.total / self.count).tolist()

    def sd(self) -> list[float]:
        """Over images."""
        return (self.squares / self.count - (self.total / self.count) ** 2).clamp_min(0).sqrt().tolist()


@dataclass
class Findings:
    """What was found of one layer. exact: by amount, whether nothing was interpolated between units.

    unrelated: |f(x) - f(x')| / |f(x)| of each image and the one before it, what the invariance of an image that is
    no longer recognized would be. Without maps there is no equivariance.
    """

    name: str
    layer: Layer
    invariance: Errors
    equivariance: Errors | None
    unrelated: Errors
    exact: list[bool] = field(default_factory=list)

    @classmethod
    def none(cls, name: str, layer: Layer, points: int, equivariance: bool) -> "Findings":
        return cls(name, layer, Errors.none(points), Errors.none(points) if equivariance else None, Errors.none(1))


class Comparison(NamedTuple):
    """One layer at one amount: f(x), f(t(x)) and t(f(x)), (N, C, h, w), or (N, D) without the last, as t moves maps.

    exact: whether no value of t(f(x)) was interpolated.
    """

    found: Findings
    point: int
    still: Tensor
    after: Tensor
    before: Tensor | None = None
    exact: bool = True


class Example(NamedTuple):
    """One image by amount: t(x), (C, side, side), and of each map (f(t(x)), t(f(x))), (h, w).

    Of a map its most varied unit in the image as it is.
    """

    images: list[Tensor]
    maps: dict[str, list[tuple[Tensor, Tensor]]]


class Measure:
    """The errors of the layers of a model over a transformation.

    layers: by the names that they are given. `add` batches of images; `findings` tells what they came to.
    Raises UsageError for a transformation that the border does not allow, and for maps that cannot be repeated.
    """

    def __init__(
        self,
        model: Model,
        layers: Mapping[str, Layer],
        transform: str,
        amounts: Sequence[float | str],
        runtime: Runtime,
        border: str = MIRROR,
    ):
        self.runtime, self.border, self.side = runtime, border, model.preprocessing.crop
        if border == CIRCULAR:
            _check_circular(transform, layers, self.side)
            model = replace(model, network=circular(model.network).eval())
        self.model, self.motions = model, [motion(transform, amount) for amount in amounts]
        self.findings = [Findings.none(n, layer, len(amounts), is_map(layer, border)) for n, layer in layers.items()]
        self.sights = {f.name: GridAlignment.of(f.layer, self.side) for f in self.findings if f.equivariance}
        # Maps are computed on a larger image, whose grids of units hold those of the image itself
        beyond = max((sight.beyond for sight in self.sights.values()), default=0)
        away = max((self._away(layers[name]) for name in self.sights), default=0)
        strides = math.lcm(*(round(layers[name].stride) for name in self.sights))
        self.margin, self.wide_margin = (
            0 if border == CIRCULAR else math.ceil(width / strides) * strides for width in (beyond, beyond + away)
        )
        maps = [layers[name].address for name in self.sights]
        others = [f.layer.address for f in self.findings if not f.equivariance]
        self.of_maps = Activations(model, maps) if maps else None
        self.of_others = Activations(model, others) if others else None
        self.last: dict[str, Tensor] = {}  # f(x) of the last image of the batch before

    @property
    def batch_size(self) -> int:
        """How many images to `add` at a time, so that memory does not grow with the margins that a mirror needs."""
        return max(1, min(BATCH, BATCH * SIDE**2 // (self.side + 2 * self.wide_margin) ** 2))

    def add(self, images: Tensor) -> None:
        """Count a batch (N, C, side, side), uint8 or float in [0, 1]."""
        for found, point, still, after, before, exact in self.compared(images):
            found.invariance.add(point, after, still)
            if before is not None:
                found.equivariance.add(point, after, before)
            if len(found.exact) == point:
                found.exact.append(exact)
            if point == 0:
                previous = torch.cat([self.last.get(found.name, still[:0]), still[:-1]])
                found.unrelated.add(0, previous, still[len(still) - len(previous) :])
                self.last[found.name] = still[-1:]

    @torch.inference_mode()
    def compared(self, images: Tensor) -> Iterator[Comparison]:
        """A batch as in `add`, amount by amount, the layers of each in order."""
        images = image_io.to_unit(images.to(self.runtime.device))
        wide = self._values(self._moved_images(images, Motion(), self.wide_margin), self.wide_margin)
        for point, t in enumerate(self.motions):
            values = self._values(self._moved_images(images, t, self.margin), self.margin)
            for found in self.findings:
                still = self._frame(found, wide[found.name], self.wide_margin)
                after = self._frame(found, values[found.name], self.margin)
                if found.equivariance is None:
                    yield Comparison(found, point, still, after)
                else:
                    yield Comparison(found, point, still, after, *self._moved_map(found, wide[found.name], t))

    def example(self, image: Tensor) -> "Example":
        """What becomes of one image (C, side, side)."""
        images = image_io.to_unit(image.to(self.runtime.device))[None]
        shown = [self._moved_images(images, t, 0)[0].cpu() for t in self.motions]
        maps: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.sights}
        for found, _, still, after, before, _ in self.compared(images):
            if before is not None:
                unit = still[0].flatten(1).var(1).argmax()
                maps[found.name].append((after[0, unit].cpu(), before[0, unit].cpu()))
        return Example(shown, maps)

    def _moved_images(self, images: Tensor, t: Motion, margin: int) -> Tensor:
        """t(x) with `margin` pixels of what is beyond the image on each side."""
        places = torch.arange(-margin, self.side + margin, dtype=torch.float64)
        return moved(images, t, Grid(places[:, None], places[None], 1.0, (0.0, 0.0)), self.side, self.border)[0]

    def _moved_map(self, found: Findings, values: Tensor, t: Motion) -> tuple[Tensor, bool]:
        """(t(f(x)) at the units of the image, whether it is exact), of a map computed with the wide margin."""
        first = self.sights[found.name].first
        known = first[0] - self.wide_margin, first[1] - self.wide_margin
        grid = Grid(*_places(found.layer, first), found.layer.stride, known)
        return moved(values, t, grid, self.side, self.border)

    def _values(self, shown: Tensor, margin: int) -> dict[str, Tensor]:
        """name: f of images with a margin; what sees the whole image is computed without it."""
        values = {}
        for activations, given in ((self.of_maps, shown), (self.of_others, _inner(shown, margin))):
            if activations is not None:
                try:
                    with Wrapping() if self.border == CIRCULAR else nullcontext():
                        values |= activations(given)
                except (RuntimeError, AssertionError) as error:
                    if not margin or out_of_memory(error):
                        raise
                    raise UsageError(
                        f"--padding mirror: {self.model.name} does not take the larger images that it needs "
                        f"({str(error).splitlines()[0]}); take --padding circular, or other layers"
                    ) from None
        return {f.name: self.model.finite(values[f.layer.address].float(), self.runtime) for f in self.findings}

    def _frame(self, found: Findings, values: Tensor, margin: int) -> Tensor:
        """Of a map computed with a margin, the units of the image itself."""
        if found.equivariance is None:
            return values
        first, (height, width) = margin // round(found.layer.stride), found.layer.shape[1:]
        return values[:, :, first : first + height, first : first + width]

    def _away(self, layer: Layer) -> float:
        """How many pixels outside of a map's own grid t looks for its values at most."""
        rows, columns = _places(layer, GridAlignment.of(layer, self.side).first)
        away = 0.0
        for t in self.motions:
            # One unit more to interpolate with, and those around that a smaller image takes in
            spare = layer.stride * (1 + t.shrinks / 2)
            for source, own in zip(t.source(rows, columns, self.side), (rows, columns), strict=True):
                away = max(away, *(float(d.max()) + spare for d in (own.min() - source, source - own.max())))
        return away


def _inner(shown: Tensor, margin: int) -> Tensor:
    """Images without their margin."""
    return shown[:, :, margin : shown.shape[2] - margin, margin : shown.shape[3] - margin]


def _places(layer: Layer, first: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Where the units of a map stand: (h, 1) and (1, w), pixels."""
    rows, columns = (
        start + layer.stride * torch.arange(n, dtype=torch.float64)
        for start, n in zip(first, layer.shape[1:], strict=True)
    )
    return rows[:, None], columns[None]


def _check_circular(transform: str, layers: Mapping[str, Layer], side: int) -> None:
    if transform in ("rotate", "scale"):
        raise UsageError(
            f"--transform {transform}: an image that is repeated can only be moved and flipped; take --padding mirror"
        )
    for name, layer in layers.items():
        if layer.is_map and any(n * layer.stride != side for n in layer.shape[1:]):
            raise UsageError(
                f"--layer {name}: its {layer.shape[1]} units, {layer.stride:g} pixels apart, do not go evenly around a "
                f"image of {side} pixels; take --padding mirror, or other layers"
            )

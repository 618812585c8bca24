"""How far the layers of a network are from invariance and from equivariance (the terms of Lenc and Vedaldi 2015).

A transformation t acts on an image x and in the same way on a feature map, whose units are the pixels of an image:
(t f)(p) = f(t^-1 p), where p is a position in the image. The errors of a layer f are norms over its units and channels:

    invariance     |f(t(x)) - f(x)| / |f(x)|           0 if the map does not change when the image is transformed
    equivariance   |f(t(x)) - t(f(x))| / |t(f(x))|     0 if the map is transformed as the image is

Units are `stride` pixels apart, so t may need values between them. For a shift by a multiple of the stride, a flip of a
symmetric grid or a quarter turn it does not, and the comparison is exact. Otherwise values are interpolated bilinearly,
in images too, and the interpolation is a part of the error.

Borders: A network pads its maps, and padding is not transformed with the image. With SYMMETRIC, the image is reflected
at its border, so far that no compared unit sees padding. With CIRCULAR, the image and the padding of every layer wrap
around; then images can be shifted and flipped, but not rotated or scaled. Units that see the whole image, such as
logits, see the image itself, in SYMMETRIC with the network's own padding.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mlcli.counting import counted
from mlcli.errors import UsageError, out_of_memory
from mlcli.imaging import image_io
from mlcli.methods.visualization.motion import CIRCULAR, SYMMETRIC, Grid, Motion, motion, transform_values
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.features import SIGNED, Activations
from mlcli.models.structure.graph import WHOLE, Layer
from mlcli.runtime.device import Runtime

LOGITS = "logits"  # the last layer of a classifier
BATCH, SIDE = 16, 224  # largest batch, for images of this side; larger images come in smaller batches
ROUNDING = 1e-6  # root mean square of activations below which they are rounding errors, as of an empty image


# -- layers --------------------------------------------------------------------------------------------------


def named_layers(model: Model, names: Sequence[str]) -> dict[str, Layer]:
    """Layers by the given addresses or aliases, `logits` for the last one; without names, all stages and the logits."""
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
    """Whether equivariance is measured: the layer is a map, and with SYMMETRIC no unit sees the whole image."""
    return layer.is_map and (border == CIRCULAR or WHOLE not in layer.field)


class GridAlignment(NamedTuple):
    """Positions of the units of a map in an image (side, side).

    first: (row, column) of the center of the receptive field of unit (0, 0). beyond: number of pixels by which
    receptive fields extend beyond the border of the image.
    """

    first: tuple[float, float]
    beyond: float

    @classmethod
    def of(cls, layer: Layer, side: int) -> "GridAlignment":
        field, (rows, columns) = layer.field, layer.shape[1:]
        if WHOLE in (field.height, field.width):  # the exact positions are unknown, so the grid is centered
            spare = [(side - 1 - field.stride * (n - 1)) / 2 for n in (rows, columns)]
            return cls((spare[0], spare[1]), 0)
        first = field.top + (field.height - 1) / 2, field.left + (field.width - 1) / 2
        bottom = field.top + field.stride * (rows - 1) + field.height - side
        right = field.left + field.stride * (columns - 1) + field.width - side
        return cls(first, max(0.0, -field.top, -field.left, bottom, right))


def circular(network: nn.Module) -> nn.Module:
    """A copy of the network in which every padded convolution and pooling wraps around.

    Raises UsageError for pooling with `ceil_mode`. Layers that call `pad` themselves, such as those with TensorFlow's
    "same" padding, need `CircularPadding`.
    """
    network = copy.deepcopy(network)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
        elif getattr(module, "ceil_mode", False):
            raise UsageError(f"--padding circular: {name} pools beyond the border by itself; take --padding symmetric")
        elif isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)) and module.padding not in (0, (0, 0)):
            down, across = module.padding if isinstance(module.padding, tuple) else (module.padding,) * 2
            wrapped = nn.Sequential(nn.CircularPad2d((across, across, down, down)), module)
            module.padding = 0
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, wrapped)
    return network


class CircularPadding(TorchFunctionMode):
    """A context in which `torch.nn.functional.pad` wraps maps around, whatever its mode.

    timm's Conv2dSame, among others, chooses its padding by the size of the map and calls `pad` itself.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.pad:
            return func(*args, **(kwargs or {}))
        values, pad = _pad_arguments(*args, **(kwargs or {}))
        if values.ndim != 4 or len(pad) != 4 or max(pad) <= 0 or min(pad) < 0:  # it pads channels, or crops
            return func(*args, **(kwargs or {}))
        return F.pad(values, pad, mode="circular")


def _pad_arguments(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> tuple[Tensor, Sequence[int]]:
    """Bind the arguments of `torch.nn.functional.pad` to its parameter names; returns the first two."""
    return input, pad


# -- the measure ---------------------------------------------------------------------------------------------


@dataclass
class Errors:
    """Relative errors of one layer for each amount, summed over images.

    Images whose activations are rounding errors alone are not counted.
    """

    count: Tensor
    total: Tensor
    squares: Tensor

    @classmethod
    def none(cls, points: int) -> "Errors":
        return cls(*torch.zeros(3, points, dtype=torch.float64))

    def add(self, point: int, values: Tensor, wanted: Tensor) -> None:
        """Add |values - wanted| / |wanted| of each image of a batch (N, ...) to the amount with this index."""
        norms, errors = (v.flatten(1).norm(dim=1).cpu().double() for v in (wanted, values - wanted))
        counted = norms > ROUNDING * wanted.flatten(1).shape[1] ** 0.5
        errors = errors[counted] / norms[counted]
        self.count[point] += len(errors)
        self.total[point] += errors.sum()
        self.squares[point] += errors.square().sum()

    def mean(self) -> list[float]:
        """Mean over images for each amount; NaN where no image was counted."""
        return (self.total / self.count).tolist()

    def sd(self) -> list[float]:
        """Standard deviation over images for each amount."""
        return (self.squares / self.count - (self.total / self.count) ** 2).clamp_min(0).sqrt().tolist()


@dataclass
class Findings:
    """The errors of one layer.

    equivariance: None for a layer that is not a map. unrelated: |f(x) - f(x')| / |f(x)| of each image and the one
    before it, the invariance error of an image that is no longer recognized. exact: for each amount, whether nothing
    was interpolated between units.
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
    """The activations of one layer for one amount, (N, C, h, w) or (N, D).

    original: f(x). image_first: f(t(x)). layer_first: t(f(x)), None for a layer that is not a map. exact: whether no
    value of t(f(x)) was interpolated.
    """

    found: Findings
    point: int
    original: Tensor
    image_first: Tensor
    layer_first: Tensor | None = None
    exact: bool = True


class Example(NamedTuple):
    """One image at all amounts.

    images: t(x), (C, side, side), for each amount. maps: for each map and amount, (f(t(x)), t(f(x))) of the unit with
    the greatest variance in f(x), (h, w) each.
    """

    images: list[Tensor]
    maps: dict[str, list[tuple[Tensor, Tensor]]]


class Measure:
    """Measures the errors of the layers of a model under a transformation.

    layers: the layers by name. `add` adds batches of images to the `findings`.
    Raises UsageError for a transformation that the border does not allow, and for maps that cannot wrap around.
    """

    def __init__(
        self,
        model: Model,
        layers: Mapping[str, Layer],
        transform: str,
        amounts: Sequence[float | str],
        runtime: Runtime,
        border: str = SYMMETRIC,
    ):
        self.runtime, self.border, self.side = runtime, border, model.preprocessing.crop
        if border == CIRCULAR:
            _check_circular(transform, layers, self.side)
            model = replace(model, network=circular(model.network).eval())
        self.model, self.motions = model, [motion(transform, amount) for amount in amounts]
        self.findings = [Findings.none(n, layer, len(amounts), is_map(layer, border)) for n, layer in layers.items()]
        self.alignments = {f.name: GridAlignment.of(f.layer, self.side) for f in self.findings if f.equivariance}
        # Maps are computed from images with a margin, a multiple of all strides, so that the units of the image itself
        # are among those of the larger image
        beyond = max((alignment.beyond for alignment in self.alignments.values()), default=0)
        outside = max((self._outside(layers[name]) for name in self.alignments), default=0)
        strides = math.lcm(*(round(layers[name].stride) for name in self.alignments))
        self.margin, self.wide_margin = (
            0 if border == CIRCULAR else math.ceil(width / strides) * strides for width in (beyond, beyond + outside)
        )
        maps = [layers[name].address for name in self.alignments]
        others = [f.layer.address for f in self.findings if not f.equivariance]
        self.of_maps = Activations(model, maps) if maps else None
        self.of_others = Activations(model, others) if others else None
        self.last: dict[str, Tensor] = {}  # f(x) of the last image of the batch before

    @property
    def batch_size(self) -> int:
        """Number of images to `add` at a time, chosen so that memory does not grow with the margins of SYMMETRIC."""
        return max(1, min(BATCH, BATCH * SIDE**2 // (self.side + 2 * self.wide_margin) ** 2))

    def add(self, images: Tensor) -> None:
        """Add a batch of images (N, C, side, side), uint8 or float in [0, 1]."""
        for found, point, original, image_first, layer_first, exact in self.compared(images):
            found.invariance.add(point, image_first, original)
            if found.equivariance is not None and layer_first is not None:
                found.equivariance.add(point, image_first, layer_first)
            if len(found.exact) == point:
                found.exact.append(exact)
            if point == 0:
                previous = torch.cat([self.last.get(found.name, original[:0]), original[:-1]])
                found.unrelated.add(0, previous, original[len(original) - len(previous) :])
                self.last[found.name] = original[-1:]

    @torch.inference_mode()
    def compared(self, images: Tensor) -> Iterator[Comparison]:
        """The comparisons of a batch as in `add`: for each amount, all layers in order."""
        images = image_io.to_unit(images.to(self.runtime.device))
        wide = self._values(self._transformed_images(images, Motion(), self.wide_margin), self.wide_margin)
        for point, t in enumerate(self.motions):
            values = self._values(self._transformed_images(images, t, self.margin), self.margin)
            for found in self.findings:
                original = self._without_margin(found, wide[found.name], self.wide_margin)
                image_first = self._without_margin(found, values[found.name], self.margin)
                if found.equivariance is None:
                    yield Comparison(found, point, original, image_first)
                else:
                    layer_first, exact = self._transformed_map(found, wide[found.name], t)
                    yield Comparison(found, point, original, image_first, layer_first, exact)

    def example(self, image: Tensor) -> "Example":
        """The transformed images and maps of one image (C, side, side)."""
        images = image_io.to_unit(image.to(self.runtime.device))[None]
        shown = [self._transformed_images(images, t, 0)[0].cpu() for t in self.motions]
        maps: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in self.alignments}
        for found, _, original, image_first, layer_first, _ in self.compared(images):
            if layer_first is not None:
                unit = int(original[0].flatten(1).var(1).argmax())
                maps[found.name].append((image_first[0, unit].cpu(), layer_first[0, unit].cpu()))
        return Example(shown, maps)

    def _transformed_images(self, images: Tensor, t: Motion, margin: int) -> Tensor:
        """t(x) with a margin of this many pixels on each side."""
        positions = torch.arange(-margin, self.side + margin, dtype=torch.float64)
        return transform_values(
            images, t, Grid(positions[:, None], positions[None], 1.0, (0.0, 0.0)), self.side, self.border
        )[0]

    def _transformed_map(self, found: Findings, values: Tensor, t: Motion) -> tuple[Tensor, bool]:
        """(t(f(x)) at the units of the image, whether it is exact), from a map f(x) with the wide margin."""
        first = self.alignments[found.name].first
        known = first[0] - self.wide_margin, first[1] - self.wide_margin
        grid = Grid(*_positions(found.layer, first), found.layer.stride, known)
        return transform_values(values, t, grid, self.side, self.border)

    def _values(self, shown: Tensor, margin: int) -> dict[str, Tensor]:
        """Activations of images with a margin, by name of the layer; layers without maps get images without it."""
        values: dict[str, Tensor] = {}
        for activations, given in ((self.of_maps, shown), (self.of_others, _inner(shown, margin))):
            if activations is not None:
                try:
                    with CircularPadding() if self.border == CIRCULAR else nullcontext():
                        values |= activations(given)
                except (RuntimeError, AssertionError) as error:
                    if not margin or out_of_memory(error):
                        raise
                    raise UsageError(
                        f"--padding symmetric: needs larger images than {self.model.name} accepts "
                        f"({str(error).splitlines()[0]}); take --padding circular or other layers"
                    ) from None
        return {f.name: self.model.finite(values[f.layer.address].float(), self.runtime) for f in self.findings}

    def _without_margin(self, found: Findings, values: Tensor, margin: int) -> Tensor:
        """The units of the image itself, from a map that was computed with a margin."""
        if found.equivariance is None:
            return values
        first, (height, width) = margin // round(found.layer.stride), found.layer.shape[1:]
        return values[:, :, first : first + height, first : first + width]

    def _outside(self, layer: Layer) -> float:
        """The greatest distance in pixels from a map's grid at which a transformation needs values."""
        rows, columns = _positions(layer, GridAlignment.of(layer, self.side).first)
        outside = 0.0
        for t in self.motions:
            # One more unit for the interpolation, and those that are averaged when an image is made smaller
            spare = layer.stride * (1 + t.shrinks / 2)
            for source, own in zip(t.source(rows, columns, self.side), (rows, columns), strict=True):
                outside = max(outside, *(float(d.max()) + spare for d in (own.min() - source, source - own.max())))
        return outside


def _inner(shown: Tensor, margin: int) -> Tensor:
    """Images without their margin."""
    return shown[:, :, margin : shown.shape[2] - margin, margin : shown.shape[3] - margin]


def _positions(layer: Layer, first: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The positions of the units of a map in pixels: (h, 1) and (1, w)."""
    rows, columns = (
        start + layer.stride * torch.arange(n, dtype=torch.float64)
        for start, n in zip(first, layer.shape[1:], strict=True)
    )
    return rows[:, None], columns[None]


def _check_circular(transform: str, layers: Mapping[str, Layer], side: int) -> None:
    """Raise UsageError where images or maps cannot wrap around."""
    if transform in ("rotate", "scale"):
        raise UsageError(
            f"--transform {transform}: an image that wraps around can only be shifted and flipped; "
            "take --padding symmetric"
        )
    for name, layer in layers.items():
        if layer.is_map and any(n * layer.stride != side for n in layer.shape[1:]):
            raise UsageError(
                f"--layer {name}: its {counted(layer.shape[1], 'unit')} at a stride of {layer.stride:g} do not wrap "
                f"evenly around an image of {side} pixels; take --padding symmetric or other layers"
            )

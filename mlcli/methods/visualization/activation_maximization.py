"""Activation maximization: the image that maximizes a unit, or any other objective, of a network.

Erhan, Bengio, Courville, Vincent 2009, Visualizing Higher-Layer Features of a Deep Network; Olah, Mordvintsev, Schubert
2017, Feature Visualization. The image is the unknown: x* = argmax a(x), found by gradient ascent. A parametrization,
decorrelated colors and random transforms keep it from becoming noise, to which networks respond as well.

Deviations from Olah et al. (their program Lucid):
- Images are never resized to the size of ImageNet's.
- One affine map with reflected borders replaces their padding, jitter, scaling, rotation and jitter. It scales by up to
  a quarter.
- The colors are those of the model's own training data.
- Against fine noise, the scale of the frequencies falls faster than 1/f, and the learning rate decays. Adam takes 160
  steps instead of 512.
- During the first steps the gradient passes the ReLU of a silent unit alone, and not all ReLUs. A ReLU6 is read before
  its upper limit.
- Layers whose receptive field is smaller than a third of a photograph's side get no random transforms, which would
  blur the fine patterns that they respond to.

A feature map grows with the image, so a channel takes an image of any size. A class was learned from images of one
size. Of a larger image the network is given windows of that size at random positions, the objective is their mean, and
the image grows to its full size in octaves (after DeepDream, Mordvintsev et al. 2015). So one large object fills the
image, and the windows add detail. Where a given image is the start, each octave restores the detail that the smaller
size could not hold.
"""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import pairwise
from operator import truediv
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.errors import UsageError, out_of_memory, reason
from mlcli.imaging import image_io
from mlcli.methods.evaluation.classification import predict
from mlcli.methods.visualization import color_decorrelation
from mlcli.methods.visualization.configs import Maximization
from mlcli.methods.visualization.maco import Crops, FixedMagnitudes, Spectrum
from mlcli.methods.visualization.objectives import WARM_UP, Batch, Objective
from mlcli.methods.visualization.parametrization import PARAMETRIZATIONS, Images, Transforms, ascend, windows
from mlcli.models.model import Model
from mlcli.models.structure.features import Activations
from mlcli.models.structure.folding import fold_norms
from mlcli.runtime.device import Runtime

OCTAVE = 1.4  # growth of the image's sides from octave to octave
PLAIN = Transforms()
Compute = Callable[[Tensor], Mapping[str, Tensor]]  # images -> activations by address


@dataclass
class Maximized:
    """Result of `maximize`.

    images: (N, C, H, W) uint8. values: the objective of each image, measured on these 8 bits without random transforms.
    snapshots: maps a number of steps to the images after so many steps, (N, C, H, W) uint8.
    """

    images: Tensor
    values: list[float]
    snapshots: dict[int, Tensor] = field(default_factory=dict)


def maximize(
    model: Model,
    objectives: Sequence[Objective],
    config: Maximization,
    runtime: Runtime,
    *,
    size: int | tuple[int, int] | None = None,
    group: int = 1,
    aligned: bool = False,
    start: Tensor | None = None,
    spectrum: Spectrum | None = None,
    snapshots: Sequence[int] = (),
    batch_size: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Maximized:
    """Make one image for each objective.

    model: on the runtime's device. size: side, or (height, width), in pixels; default: the model's input size.
    group: number of consecutive objectives whose images belong together: `diversity` compares them, and if `aligned`
    they are the frames of one sequence.
    start: (3, H, W) uint8 or float in [0, 1], an image of this size to start from instead of noise.
    spectrum: magnitudes of images of this size, for MACO; default: those of photographs.
    snapshots: numbers of steps after which the images are kept.
    batch_size: number of images that are optimized together; default: `default_batch_size` of the size.
    on_step(steps done over all batches, mean objective) is called after each step.
    Raises UsageError for a size that does not fit the network, and for a position outside a layer's map.
    """
    height, width = (size, size) if isinstance(size, int) else size or (model.preprocessing.crop,) * 2
    colors = color_decorrelation.of_training_data(model)
    window = _window(objectives, model, (height, width))
    transforms = moves = Transforms(config.jitter, config.scale, config.rotation, window)
    parametrization: Any = PARAMETRIZATIONS.get(config.param)
    if config.param == "maco":
        spectrum = spectrum or Spectrum.natural(model.preprocessing.channels, (height, width))
        parametrization = FixedMagnitudes(spectrum)
        moves = Crops.of(min(height, width, model.preprocessing.crop))
    sizes = _sizes((height, width), window, config, start is not None)
    sequence_length = group if aligned else 1
    done = 0
    parts: list[Maximized] = []
    batch_size = max(1, (batch_size or default_batch_size(height, width)) // group) * group
    for first in range(0, len(objectives), batch_size):
        chosen = objectives[first : first + batch_size]
        batch = Batch(chosen, [index // group for index in range(len(chosen))], runtime.device)
        activations = _activations(model, batch)
        if not first:

            def check(each: tuple[int, int], batch: Batch = batch, activations: Compute = activations) -> None:
                for seen in {transforms.window_size(*each), moves.window_size(*each)}:
                    _check_size(activations, batch, model, seen, runtime)

            sizes = _supported_sizes(sizes, config, check)
        shape = (len(chosen), model.preprocessing.channels, *sizes[0])
        given = None
        if start is None:
            own = parametrization.noise(
                shape, config.seed, first=first, sequence_length=sequence_length, exponent=config.exponent
            )
        else:
            given = colors.coordinates(_start(start, model))
            own = parametrization.from_values(_resized(given, sizes[0]).expand(shape), exponent=config.exponent)
        images = Images(own, colors, runtime.device, first=first, sequence_length=sequence_length)
        kept: dict[int, Tensor] = {}

        def step_done(step: int, value: float, drawn: Tensor, kept: dict[int, Tensor] = kept) -> None:
            nonlocal done
            done += 1
            if step in snapshots:
                kept[step] = image_io.to_bytes(_resized(drawn.cpu(), (height, width)).clamp(0, 1))
            if on_step is not None:
                on_step(done, value)

        def objective(
            window: Tensor, drawn: Tensor, step: int, batch: Batch = batch, activations: Compute = activations
        ) -> Tensor:
            return batch(activations(window), drawn, step)

        _grow(
            images,
            objective,
            config,
            sizes,
            moves,
            runtime,
            given=given,
            frames=group if aligned else 0,
            on_step=step_done,
        )
        with torch.no_grad():
            final = image_io.to_bytes(images().cpu())
        if aligned:
            final = final[_order(activations, chosen, final, group, runtime.device, transforms)]
        # The reported values are those of the network itself, without folded norms
        plain = Activations(model, batch.addresses) if batch.addresses else activations
        parts.append(Maximized(final, values(plain, batch, final, runtime.device, transforms), kept))
    return Maximized(
        torch.cat([part.images for part in parts]),
        [value for part in parts for value in part.values],
        {step: torch.cat([part.snapshots[step] for part in parts]) for step in parts[0].snapshots},
    )


def _grow(
    images: Images,
    objective: Callable[[Tensor, Tensor, int], Tensor],
    config: Maximization,
    sizes: Sequence[tuple[int, int]],
    transforms: Transforms,
    runtime: Runtime,
    *,
    given: Tensor | None,
    frames: int,
    on_step: Callable[[int, float, Tensor], None],
) -> None:
    """Optimize the images at one of the `sizes` after the other. They begin with the first size.

    given: (1, C, H, W), the image that they started from, in color coordinates; None for noise.
    frames: number of frames of an aligned sequence, 0 for single images. After two thirds of the steps each frame may
    take over a neighbor's image; the rest of the steps use a fifth of the learning rate.
    """
    exchange_step = config.steps * 2 // 3 if frames else config.steps

    def lr(step: int) -> float:
        decayed = 1 - (1 - config.decay) * step / config.steps
        return config.lr * decayed * (1 if step < exchange_step else 0.2)

    def ascent(steps: range) -> None:
        ascend(
            images,
            objective,
            steps=steps,
            lr=lr,
            transforms=transforms,
            seed=config.seed,
            runtime=runtime,
            on_step=on_step,
        )

    ends = [config.steps * octave // len(sizes) for octave in range(len(sizes) + 1)]
    for octave, (first, end) in enumerate(pairwise(ends)):
        if octave:
            images.enlarge(sizes[octave], None if given is None else _detail(given, sizes[octave - 1], sizes[octave]))
        ascent(range(first, min(exchange_step, end)))
        if frames and first <= exchange_step < end:
            _exchange(images, objective, frames, transforms)
        ascent(range(max(exchange_step, first), end))


def _detail(given: Tensor, smaller: tuple[int, int], larger: tuple[int, int]) -> Tensor:
    """The detail of an image (1, C, H, W) at the larger size that is lost at the smaller one."""
    return _resized(given, larger) - _resized(_resized(given, smaller), larger)


def _activations(model: Model, batch: Batch) -> Compute:
    """A function from images to the activations of the objectives' layers, by address.

    Batch norms are folded into the convolutions before them, which saves a fifth of the time on EfficientNet-Lite0.
    """
    if not batch.addresses:
        return lambda images: {}
    activations = Activations(model, batch.addresses)
    fold_norms(activations.extractor)
    return activations


def with_fastest_precision(runtime: Runtime, model: Model) -> Runtime:
    """The runtime with the precision in which the gradients of this model are computed faster.

    On a CPU the backward pass of depthwise convolutions is slower in bf16: EfficientNet-Lite0 takes a fifth more time.
    """
    depthwise = any(isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels for m in model.network.modules())
    return replace(runtime, precision="fp32") if depthwise and runtime.device.type == "cpu" else runtime


def receptive_field(objectives: Sequence[Objective]) -> float:
    """Side of the largest receptive field of these objectives, in pixels; infinite for objectives without a layer."""
    layers = [term.layer for objective in objectives for _, term in objective.terms if term.layer]
    return max((layer.receptive_field for layer in layers), default=math.inf)


def default_batch_size(height: int, width: int) -> int:
    """Number of images of this size that are optimized together: 64 small ones, fewer large ones to save memory."""
    return max(1, min(64, 64 * 128**2 // (height * width)))


def _window(objectives: Sequence[Objective], model: Model, size: tuple[int, int]) -> tuple[int, int] | None:
    """Size of the windows of an image that the network is given; None for the whole image.

    The channels of a map cover an image of any size. A class, or any other unit with a single value for the image, was
    learned from images of the model's input size, so its windows are no larger.
    """
    layers = [term.layer for objective in objectives for _, term in objective.terms if term.layer]
    if all(layer.is_map for layer in layers):
        return None
    return min(size[0], model.preprocessing.crop), min(size[1], model.preprocessing.crop)


def _sizes(
    size: tuple[int, int], window: tuple[int, int] | None, config: Maximization, dream: bool
) -> list[tuple[int, int]]:
    """The sizes at which an image is optimized, growing by `OCTAVE` up to `size`.

    dream: whether the optimization starts from a given image, which has one octave unless the config says otherwise.
    """
    octaves = config.octaves
    if octaves is None:
        larger = 1 if window is None or dream else max(map(truediv, size, window)) / config.first
        octaves = 1 + round(math.log(larger, OCTAVE))
    height, width = size
    powers = reversed(range(octaves))
    return [(max(1, round(height / OCTAVE**p)), max(1, round(width / OCTAVE**p))) for p in powers]


def _supported_sizes(
    sizes: list[tuple[int, int]], config: Maximization, check: Callable[[tuple[int, int]], None]
) -> list[tuple[int, int]]:
    """The sizes that the network accepts; many transformers accept one only.

    check(size) raises UsageError for a size that is not accepted. An error of the last size is passed on, and so is one
    of the first size where the config sets the number of octaves.
    """
    check(sizes[-1])
    if config.octaves is not None:
        check(sizes[0])
        return sizes
    kept = []
    for size in sizes[:-1]:
        with contextlib.suppress(UsageError):
            check(size)
            kept.append(size)
    return [*kept, sizes[-1]]


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The images (N, C, H, W) at another size (height, width)."""
    return images if images.shape[2:] == size else F.interpolate(images, size=size, mode="bicubic", antialias=True)


@torch.inference_mode()
def _exchange(
    images: Images, objective: Callable[[Tensor, Tensor, int], Tensor], group: int, transforms: Transforms
) -> None:
    """Give each frame the image with the highest objective among its own and those of its two neighbors."""
    drawn = images()
    indices = torch.arange(len(drawn), device=drawn.device)
    first = indices // group * group
    sources = torch.stack([(indices + shift).clamp(first, first + group - 1) for shift in (0, -1, 1)])
    views = windows(drawn, transforms)
    scores = [reduce(torch.add, (objective(view[own], drawn[own], WARM_UP) for view in views)) for own in sources]
    images.take(sources[torch.stack(scores).argmax(0), indices])


def _order(
    activations: Compute,
    objectives: Sequence[Objective],
    images: Tensor,
    group: int,
    device: torch.device,
    transforms: Transforms,
) -> list[int]:
    """The indices of the images for each frame, such that a falls and b rises over each sequence.

    The maximum of (1 - t) a + t b has less of a and more of b as t grows. The frames follow that order except where the
    ascent of a frame ended in a poorer optimum than its neighbor's. A frame that another surpasses in both a and b is
    replaced by that one.
    """
    order: list[int] = []
    for first in range(0, len(objectives), group):
        frames = range(first, first + group)
        ends = [Batch([objectives[end]] * group, [0] * group, device) for end in (first, first + group - 1)]
        a, b = (
            dict(zip(frames, values(activations, end, images[list(frames)], device, transforms), strict=True))
            for end in ends
        )
        best = [max((j for j in frames if a[j] >= a[i] and b[j] >= b[i]), key=lambda j: a[j] + b[j]) for i in frames]
        order += sorted(best, key=lambda i: (-a[i], b[i]))
    return order


def predicted_classes(model: Model, images: Tensor, runtime: Runtime) -> list[tuple[str, float]]:
    """The (class, probability) that `classify` predicts for each of the images (N, C, H, W) uint8."""
    prepared = [model.preprocessing.prepare(image.expand(3, -1, -1)) for image in images]
    best = torch.cat([predict(model, part, runtime) for part in torch.stack(prepared).split(32)]).max(1)
    names = [model.classes[index] for index in best.indices.tolist()]
    return list(zip(names, best.values.tolist(), strict=True))


@torch.inference_mode()
def values(
    activations: Compute, batch: Batch, images: Tensor, device: torch.device, transforms: Transforms = PLAIN
) -> list[float]:
    """The objectives of finished images (N, C, H, W) uint8, in fp32: means over the windows of `transforms`."""
    images = image_io.to_unit(images.to(device))
    views = windows(images, transforms)
    return (reduce(torch.add, (batch(activations(view), images) for view in views)) / len(views)).tolist()


@torch.inference_mode()
def _check_size(activations: Compute, batch: Batch, model: Model, size: tuple[int, int], runtime: Runtime) -> None:
    """Try the network on one image of this size. Raises UsageError where it fails."""
    image = torch.zeros(1, model.preprocessing.channels, *size, device=runtime.device)
    try:
        computed = activations(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        if out_of_memory(error):
            raise
        raise UsageError(
            f"--size {min(size)}: does not suit these layers of {model.name} ({reason(error)}); "
            f"the model's input size is {model.preprocessing.crop}"
        ) from None
    batch.check_positions(computed)


def _start(start: Tensor, model: Model) -> Tensor:
    """The image (3, H, W) to start from, as (1, channels, H, W) in [0, 1]."""
    start = image_io.to_unit(start)
    return (image_io.to_gray(start) if model.preprocessing.channels == 1 else start)[None]

"""Activation maximization: the image that a unit, or any objective, answers to most strongly.

Erhan, Bengio, Courville, Vincent 2009, Visualizing Higher-Layer Features of a Deep Network; Olah, Mordvintsev, Schubert
2017, Feature Visualization. The image is the unknown: x* = argmax a(x), by gradient ascent, with a parametrization,
colors and random transforms that keep it from the noise which networks answer to as well.

Deviations from Olah et al. (their program Lucid): images are never resized to the size of ImageNet's. The transforms
are one affine map with mirrored borders in place of padding, jitter, scaling, rotation and jitter, and scale by up to a
quarter. Colors are those of the model's own training data. The scale of the frequencies falls faster than 1/f, and the
learning rate falls, both against fine noise; 160 steps of Adam instead of 512. Gradient is let through a silent unit's
own ReLU during the first steps, not through all ReLUs, and a ReLU6 is read past its end. Layers that see less than a
third of a photograph's side are given no transforms, which would blur the fine patterns that they look for.

A map is as large as the image, so a channel sees an image of any size as it is. A class was learned on images of one
size: of a larger image the network sees windows of that size, at random positions, whose mean counts, and the image
grows to its size in octaves (after DeepDream, Mordvintsev et al. 2015). So one large thing fills the image, and
windows give it detail. From an image of one's own, octaves put back what the smaller one could not hold.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from operator import truediv

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.errors import UsageError, out_of_memory, reason
from mlcli.io import image_io
from mlcli.methods.evaluation.classification import predict
from mlcli.methods.visualization import color_decorrelation
from mlcli.methods.visualization.configs import Maximization
from mlcli.methods.visualization.objectives import WARM_UP, Batch, Objective
from mlcli.methods.visualization.parametrization import PARAMETRIZATIONS, Images, Transforms, ascend, windows
from mlcli.models.features import Activations
from mlcli.models.folding import fold_norms
from mlcli.models.registry import Model
from mlcli.runtime.device import Runtime

OCTAVE = 1.4  # how much larger an image is in each octave
PLAIN = Transforms()


@dataclass
class Maximized:
    """images: (N, C, H, W) uint8. values: of the objective of each, on these 8 bits and without transforms.

    snapshots: step -> (N, C, H, W) uint8, the images after so many steps, fewer than all.
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
    snapshots: Sequence[int] = (),
    batch_size: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Maximized:
    """An image for each objective, `batch_size` of them at a time; `model` is on the runtime's device.

    size: side, or height and width, in pixels; default the model's own. group: so many objectives in a row are of
    images that belong together: what `diversity` compares, and, if `aligned`, frames of one sequence.
    start: (3, H, W) uint8 or float in [0, 1], an image of this size to start from in place of noise.
    batch_size: default `at_once(size)`. on_step(steps done over all batches, mean objective).
    Raises UsageError for a size that does not suit the network or a place outside a layer's map.
    """
    height, width = (size, size) if isinstance(size, int) else size or (model.preprocessing.crop,) * 2
    palette = color_decorrelation.of_training_data(model)
    window = _window(objectives, model, (height, width))
    transforms = Transforms(config.jitter, config.scale, config.rotation, window)
    sizes = _sizes((height, width), window, config, start is not None)
    alike = group if aligned else 1
    done = 0
    parts: list[Maximized] = []
    batch_size = max(1, (batch_size or at_once(height, width)) // group) * group
    for first in range(0, len(objectives), batch_size):
        chosen = objectives[first : first + batch_size]
        batch = Batch(chosen, [index // group for index in range(len(chosen))], runtime.device)
        activations = _activations(model, batch)
        if not first:

            def check(each: tuple[int, int], batch=batch, activations=activations) -> None:
                _check(activations, batch, model, transforms.seen(*each), runtime)

            sizes = _suited(sizes, config, check)
        shape = (len(chosen), model.preprocessing.channels, *sizes[0])
        parametrization = PARAMETRIZATIONS[config.param]
        given = None
        if start is None:
            own = parametrization.noise(shape, config.seed, first=first, alike=alike, exponent=config.exponent)
        else:
            given = palette.coordinates(_start(start, model))
            own = parametrization.of(_resized(given, sizes[0]).expand(shape), exponent=config.exponent)
        images = Images(own, palette, runtime.device, first=first, alike=alike)
        kept: dict[int, Tensor] = {}

        def step_done(step: int, value: float, drawn: Tensor, kept=kept) -> None:
            nonlocal done
            done += 1
            if step in snapshots:
                kept[step] = image_io.to_bytes(_resized(drawn.cpu(), (height, width)).clamp(0, 1))
            if on_step is not None:
                on_step(done, value)

        def objective(seen, drawn, step, batch=batch, activations=activations):
            return batch(activations(seen), drawn, step)

        _grow(
            images,
            objective,
            config,
            sizes,
            transforms,
            runtime,
            given=given,
            frames=group if aligned else 0,
            on_step=step_done,
        )
        with torch.no_grad():
            final = image_io.to_bytes(images().cpu())
        if aligned:
            final = final[_order(activations, chosen, final, group, runtime.device, transforms)]
        # What is reported is of the network itself, to the last digit
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
    """Optimize the images, as large as the first of `sizes`, at one size after the other.

    given: (1, C, H, W), coordinates of the image that they started from. frames: of a sequence that is aligned, else 0.
    Frames help each other when two thirds of the steps are done, and are finished at a fifth of the learning rate.
    """
    turn = config.steps * 2 // 3 if frames else config.steps

    def lr(step: int) -> float:
        fallen = 1 - (1 - config.decay) * step / config.steps
        return config.lr * fallen * (1 if step < turn else 0.2)

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
        ascent(range(first, min(turn, end)))
        if frames and first <= turn < end:
            _exchange(images, objective, frames, transforms)
        ascent(range(max(turn, first), end))


def _detail(given: Tensor, smaller: tuple[int, int], larger: tuple[int, int]) -> Tensor:
    """What an image (1, C, H, W) has at the larger size and could not have at the smaller one."""
    return _resized(given, larger) - _resized(_resized(given, smaller), larger)


def _activations(model: Model, batch: Batch):
    """What computes the layers of the objectives: images -> values by address. Batch norms, which change nothing about
    the maximum, are folded: a fifth less time on EfficientNet-Lite0."""
    if not batch.addresses:
        return lambda images: {}
    activations = Activations(model, batch.addresses)
    fold_norms(activations.extractor)
    return activations


def suited(runtime: Runtime, model: Model) -> Runtime:
    """The runtime with the precision that is faster for this model's gradients, where the user leaves it open.

    On a CPU the backward pass of depthwise convolutions is slower in bf16: EfficientNet-Lite0 takes a fifth more time.
    """
    depthwise = any(isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels for m in model.network.modules())
    return replace(runtime, precision="fp32") if depthwise and runtime.device.type == "cpu" else runtime


def receptive_field(objectives: Sequence[Objective]) -> float:
    """The greatest side of what a unit of these objectives sees, in pixels; infinite where no layer is known."""
    layers = [term.layer for objective in objectives for _, term in objective.terms if term.layer]
    return max((layer.receptive_field for layer in layers), default=math.inf)


def at_once(height: int, width: int) -> int:
    """How many images of this size are optimized together: 64 small ones; of large ones fewer, as memory wants it."""
    return max(1, min(64, 64 * 128**2 // (height * width)))


def _window(objectives: Sequence[Objective], model: Model, size: tuple[int, int]) -> tuple[int, int] | None:
    """What the network is to see of an image of this size at once; None is all of it.

    A map is as large as the image, and a channel of it looks everywhere. A class, and any other unit that has one value
    for all of the image, was learned on images of the model's own size, whose sides the windows have at most.
    """
    layers = [term.layer for objective in objectives for _, term in objective.terms if term.layer]
    if all(layer.is_map for layer in layers):
        return None
    return tuple(min(side, model.preprocessing.crop) for side in size)


def _sizes(
    size: tuple[int, int], window: tuple[int, int] | None, config: Maximization, dream: bool
) -> list[tuple[int, int]]:
    """The sizes, growing by `OCTAVE`, at which an image is optimized, the last of them `size`."""
    octaves = config.octaves
    if octaves is None:
        larger = 1 if window is None or dream else max(map(truediv, size, window)) / config.first
        octaves = 1 + round(math.log(larger, OCTAVE))
    return [tuple(max(1, round(side / OCTAVE**power)) for side in size) for power in reversed(range(octaves))]


def _suited(
    sizes: list[tuple[int, int]], config: Maximization, check: Callable[[tuple[int, int]], None]
) -> list[tuple[int, int]]:
    """The sizes that the network takes: many a transformer takes its own alone. Raises UsageError without the last.

    check(size) raises UsageError. Octaves that were asked for are all wanted.
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
    """(N, C, H, W) of this size, (height, width)."""
    return images if images.shape[2:] == size else F.interpolate(images, size=size, mode="bicubic", antialias=True)


@torch.inference_mode()
def _exchange(images: Images, objective, group: int, transforms: Transforms) -> None:
    """Give each frame the image, of its own and its neighbors', that its own objective prefers."""
    drawn = images()
    places = torch.arange(len(drawn), device=drawn.device)
    first = places // group * group
    sources = torch.stack([(places + shift).clamp(first, first + group - 1) for shift in (0, -1, 1)])
    seen = windows(drawn, transforms)
    scores = torch.stack([sum(objective(each[source], drawn[source], WARM_UP) for each in seen) for source in sources])
    images.take(sources[scores.argmax(0), places])


def _order(
    activations,
    objectives: Sequence[Objective],
    images: Tensor,
    group: int,
    device: torch.device,
    transforms: Transforms,
) -> list[int]:
    """The order in which a falls and b rises over each sequence of frames.

    What is best for (1 - t) a + t b has less of a and more of b the larger t is, and so have the frames, but for where
    the ascent of one came to a poorer end than its neighbor's. A frame that another beats in both a and b is replaced
    by that one.
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


def called(model: Model, images: Tensor, runtime: Runtime) -> list[tuple[str, float]]:
    """(class, probability): what `classify` says of finished images (N, C, H, W) uint8."""
    prepared = [model.preprocessing.prepare(image.expand(3, -1, -1)) for image in images]
    best = torch.cat([predict(model, part, runtime) for part in torch.stack(prepared).split(32)]).max(1)
    names = [model.classes[index] for index in best.indices.tolist()]
    return list(zip(names, best.values.tolist(), strict=True))


@torch.inference_mode()
def values(
    activations, batch: Batch, images: Tensor, device: torch.device, transforms: Transforms = PLAIN
) -> list[float]:
    """The objectives of finished images (N, C, H, W) uint8, in fp32; the mean over the windows of `transforms`."""
    images = image_io.to_unit(images.to(device))
    seen = windows(images, transforms)
    return (sum(batch(activations(each), images) for each in seen) / len(seen)).tolist()


@torch.inference_mode()
def _check(activations, batch: Batch, model: Model, size: tuple[int, int], runtime: Runtime) -> None:
    """Try the size on one image. Raises UsageError."""
    image = torch.zeros(1, model.preprocessing.channels, *size, device=runtime.device)
    try:
        values = activations(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        if out_of_memory(error):
            raise
        raise UsageError(
            f"--size {min(size)}: does not suit these layers of {model.name} ({reason(error)}); "
            f"its own size is {model.preprocessing.crop}"
        ) from None
    batch.check_places(values)


def _start(start: Tensor, model: Model) -> Tensor:
    """(3, H, W) to (1, channels, H, W) in [0, 1]."""
    start = image_io.to_unit(start)
    return (image_io.to_gray(start) if model.preprocessing.channels == 1 else start)[None]

"""Activation maximisation: the picture that a unit, or any objective, answers to most strongly.

Erhan, Bengio, Courville, Vincent 2009, Visualizing Higher-Layer Features of a Deep Network; Olah, Mordvintsev, Schubert
2017, Feature Visualization. The picture is the unknown: x* = argmax a(x), by gradient ascent, with a parametrisation,
colours and random transforms that keep it from the noise which networks answer to as well.

Deviations from Olah et al. (their program Lucid): pictures are optimised at the size at which the network sees them,
never resized to the size of ImageNet's; the transforms are one affine map with mirrored borders in place of padding,
jitter, scaling, rotation and jitter; colours are those of the model's own training data; 128 steps of Adam
instead of 512. Gradient is let through a silent unit's own ReLU during the first steps, not through all ReLUs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlcli.engine import colours, images
from mlcli.engine.features import Activations
from mlcli.engine.models import Model
from mlcli.engine.pixels import PARAMETRISATIONS, Pictures, Transforms, ascend
from mlcli.engine.runtime import Runtime
from mlcli.errors import UsageError, out_of_memory
from mlcli.methods.classification import predict
from mlcli.methods.objectives import WARM_UP, Batch, Objective
from mlcli.methods.recipes import Maximization


@dataclass
class Maximised:
    """pictures: (N, C, H, W) uint8. values: of the objective of each, on these 8 bits and without transforms.

    snapshots: step -> (N, C, H, W) uint8, the pictures after so many steps, fewer than all.
    """

    pictures: Tensor
    values: list[float]
    snapshots: dict[int, Tensor] = field(default_factory=dict)


def maximise(
    model: Model,
    objectives: Sequence[Objective],
    recipe: Maximization,
    runtime: Runtime,
    *,
    size: int | tuple[int, int] | None = None,
    group: int = 1,
    aligned: bool = False,
    start: Tensor | None = None,
    snapshots: Sequence[int] = (),
    batch_size: int = 64,
    on_step: Callable[[int, float], None] | None = None,
) -> Maximised:
    """A picture for each objective, `batch_size` of them at a time; `model` is on the runtime's device.

    size: side, or height and width, in pixels; default the model's own. group: so many objectives in a row are of
    pictures that belong together: what `diversity` compares, and, if `aligned`, frames of one sequence.
    start: (3, H, W) uint8 or float in [0, 1], a picture of this size to start from in place of noise.
    on_step(steps done over all batches, mean objective).
    Raises UsageError for a size that does not suit the network or a place outside a layer's map.
    """
    height, width = (size, size) if isinstance(size, int) else size or (model.preprocessing.crop,) * 2
    palette = colours.of_training_data(model)
    alike = group if aligned else 1
    done = 0
    parts: list[Maximised] = []
    batch_size = max(1, batch_size // group) * group
    for first in range(0, len(objectives), batch_size):
        chosen = objectives[first : first + batch_size]
        batch = Batch(chosen, [index // group for index in range(len(chosen))], runtime.device)
        activations = Activations(model, batch.addresses) if batch.addresses else lambda pictures: {}
        if not first:
            _check(activations, batch, model, (height, width), runtime)
        shape = (len(chosen), model.preprocessing.channels, height, width)
        parametrisation = PARAMETRISATIONS[recipe.param]
        if start is None:
            own = parametrisation.noise(shape, recipe.seed, first=first, alike=alike)
        else:
            own = parametrisation.of(palette.coordinates(_start(start, model)).expand(shape))
        pictures = Pictures(own, palette, runtime.device, first=first, alike=alike)
        kept: dict[int, Tensor] = {}

        def step_done(step: int, value: float, drawn: Tensor, kept=kept) -> None:
            nonlocal done
            done += 1
            if step in snapshots:
                kept[step] = images.to_bytes(drawn.cpu())
            if on_step is not None:
                on_step(done, value)

        def objective(seen, drawn, step, batch=batch, activations=activations):
            return batch(activations(seen), drawn, step)

        # Frames help each other when most steps are done, and are finished with smaller ones.
        turn = recipe.steps * 2 // 3 if aligned else recipe.steps
        for steps, lr in ((range(turn), recipe.lr), (range(turn, recipe.steps), recipe.lr / 5)):
            if aligned and steps.start:
                _exchange(pictures, objective, group)
            ascend(
                pictures,
                objective,
                steps=steps,
                lr=lr,
                transforms=Transforms(recipe.jitter, recipe.scale, recipe.rotation),
                seed=recipe.seed,
                runtime=runtime,
                on_step=step_done,
            )
        with torch.no_grad():
            final = images.to_bytes(pictures().cpu())
        if aligned:
            final = final[_order(activations, chosen, final, group, runtime.device)]
        parts.append(Maximised(final, values(activations, batch, final, runtime.device), kept))
    return Maximised(
        torch.cat([part.pictures for part in parts]),
        [value for part in parts for value in part.values],
        {step: torch.cat([part.snapshots[step] for part in parts]) for step in parts[0].snapshots},
    )


@torch.inference_mode()
def _exchange(pictures: Pictures, objective, group: int) -> None:
    """Give each frame the picture, of its own and its neighbours', that its own objective prefers."""
    drawn = pictures()
    places = torch.arange(len(drawn), device=drawn.device)
    first = places // group * group
    sources = torch.stack([(places + shift).clamp(first, first + group - 1) for shift in (0, -1, 1)])
    scores = torch.stack([objective(drawn[source], drawn[source], WARM_UP) for source in sources])
    pictures.take(sources[scores.argmax(0), places])


def _order(
    activations, objectives: Sequence[Objective], pictures: Tensor, group: int, device: torch.device
) -> list[int]:
    """The order in which a falls and b rises over each sequence of frames.

    What is best for (1 - t) a + t b has less of a and more of b the larger t is, and so have the frames, but for where
    the ascent of one came to a poorer end than its neighbour's. A frame that another beats in both a and b is replaced
    by that one.
    """
    order: list[int] = []
    for first in range(0, len(objectives), group):
        frames = range(first, first + group)
        ends = [Batch([objectives[end]] * group, [0] * group, device) for end in (first, first + group - 1)]
        a, b = (
            dict(zip(frames, values(activations, end, pictures[list(frames)], device), strict=True)) for end in ends
        )
        best = [max((j for j in frames if a[j] >= a[i] and b[j] >= b[i]), key=lambda j: a[j] + b[j]) for i in frames]
        order += sorted(best, key=lambda i: (-a[i], b[i]))
    return order


def called(model: Model, pictures: Tensor, runtime: Runtime) -> list[tuple[str, float]]:
    """(class, probability): what `classify` says of finished pictures (N, C, H, W) uint8."""
    prepared = [model.preprocessing.prepare(picture.expand(3, -1, -1)) for picture in pictures]
    best = torch.cat([predict(model, part, runtime) for part in torch.stack(prepared).split(32)]).max(1)
    names = [model.classes[index] for index in best.indices.tolist()]
    return list(zip(names, best.values.tolist(), strict=True))


@torch.inference_mode()
def values(activations, batch: Batch, pictures: Tensor, device: torch.device) -> list[float]:
    """The objectives of finished pictures (N, C, H, W) uint8, in fp32."""
    pictures = images.to_unit(pictures.to(device))
    return batch(activations(pictures), pictures).tolist()


@torch.inference_mode()
def _check(activations, batch: Batch, model: Model, size: tuple[int, int], runtime: Runtime) -> None:
    """Try the size on one picture. Raises UsageError."""
    picture = torch.zeros(1, model.preprocessing.channels, *size, device=runtime.device)
    try:
        values = activations(picture)
    except (RuntimeError, ValueError, AssertionError) as error:
        if out_of_memory(error):
            raise
        raise UsageError(
            f"--size {min(size)}: does not suit these layers of {model.name} ({str(error).splitlines()[0]}); "
            f"its own size is {model.preprocessing.crop}"
        ) from None
    batch.check_places(values)


def _start(start: Tensor, model: Model) -> Tensor:
    """(3, H, W) to (1, channels, H, W) in [0, 1]."""
    start = images.to_unit(start)
    return (images.to_gray(start) if model.preprocessing.channels == 1 else start)[None]

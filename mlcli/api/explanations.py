"""Explanations of images: each target by each method, the checks of each map, and the files that are written."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mlcli.api.inputs import one_image
from mlcli.imaging import image_io
from mlcli.io import files, schema
from mlcli.methods.evaluation import faithfulness, sanity_check
from mlcli.methods.explanation import layer_maps
from mlcli.methods.explanation.attribution import Method, importance
from mlcli.methods.explanation.configs import BASELINES, Explaining
from mlcli.methods.explanation.integrated_gradients import integrated_gradients
from mlcli.methods.explanation.registry import METHODS
from mlcli.methods.explanation.scoring import Scorer, of_normalized
from mlcli.methods.explanation.targets import Target, Targets
from mlcli.methods.visualization import attribution_images
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime

if TYPE_CHECKING:
    from PIL import Image

SHEET = "sheet"  # in the name of the file of all overlays
# What `write` says of the files beside its JSON
WRITTEN = schema.record({"explanations": schema.items(schema.record({"map": schema.text(), "overlay": schema.text()}))})
SLUG = 60  # bytes of a target in the name of a file


@dataclass(frozen=True)
class Explanation:
    """The map of one target of one image by one method.

    target: as text.  value: of the target.  probability: of its class; None where it is no class.
    map: float32, (C, H, W) of attributions to the normalized input, or (h, w) of the regions of the image.
    importance: of each pixel of the network's input, (H, W).  layer: of a class-activation map, or "".
    more: what the method says of its map, such as the completeness of integrated gradients.
    checks: with `faithfulness`, areas, similarities and what the map fails; else empty.
    """

    image: str
    method: str
    target: str
    value: float
    probability: float | None
    map: np.ndarray
    importance: np.ndarray = field(repr=False)
    pixels: Tensor = field(repr=False)
    layer: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def drawn(self) -> Tensor:
        """The map over the gray image that the network is given, (3, H, W) in [0, 1]."""
        return attribution_images.overlay(self.pixels, torch.from_numpy(self.importance))

    @property
    def overlay(self) -> "Image.Image":
        return image_io.to_pillow(self.drawn)

    @property
    def failed(self) -> list[str]:
        """The checks that the map fails."""
        return list(self.checks.get("failed", ()))

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "target": self.target,
            "value": self.value,
            **({} if self.probability is None else {"probability": self.probability}),
            **({"layer": self.layer} if self.layer else {}),
            "shape": list(self.map.shape),
            **self.more,
            **({"checks": self.checks} if self.checks else {}),
        }


@dataclass(frozen=True)
class ExplainedImage:
    """All explanations of one image, and the most probable class: its label, index and probability; or None."""

    predicted: dict[str, Any] | None
    explanations: tuple[Explanation, ...]


class Explainer:
    """Explains images of one size by all methods and targets of a call."""

    def __init__(
        self,
        model: Model,
        runtime: Runtime,
        methods: Sequence[str],
        targets: Targets,
        hyperparameters: Explaining,
        *,
        layer: str | None = None,
        checked: bool = False,
    ) -> None:
        """checked: whether faithfulness is measured. Raises UsageError, ImageError of a baseline."""
        self.model, self.runtime, self.targets, self.checked = model, runtime, targets, checked
        self.methods = {name: METHODS[name] for name in dict.fromkeys(methods)}
        self.hyperparameters = hyperparameters
        self.layer = None
        if any(method.of_layer for method in self.methods.values()):
            self.layer = layer_maps.last_layer(model) if layer is None else layer_maps.resolve(model, layer)
            layer_maps.require_later(model, self.layer, targets.objectives)
        self.scorer = Scorer(model, targets.objectives, runtime, self.layer)
        if hyperparameters.baseline not in BASELINES and "integrated-gradients" in self.methods:
            given = model.preprocessing.prepare(image_io.read(one_image(hyperparameters.baseline)))
            (start,) = model.normalized(given[None].to(runtime.device))
            method = self.methods["integrated-gradients"]
            self.methods["integrated-gradients"] = replace(method, compute=partial(integrated_gradients, given=start))

    def __call__(self, images: Tensor, names: Sequence[str]) -> list[ExplainedImage]:
        """images: (N, C, H, W) as the model takes them, uint8 or float in [0, 1]. names: of each, for its results."""
        given = self.model.normalized(images.to(self.runtime.device))
        logits: Sequence[Tensor | None] = [None] * len(images)
        if self.model.classes:
            logits = list(self.model.finite(self._logits(given), self.runtime).cpu())
        pairs = [(number, target) for number, row in enumerate(logits) for target in self.targets.of(row)]
        repeated, targets = given[[number for number, _ in pairs]], [target for _, target in pairs]
        values = self.scorer.values(repeated, targets).tolist()
        found: dict[tuple[int, str], Explanation] = {}
        for name, method in self.methods.items():
            maps = self._maps(self.scorer, method, repeated, targets)
            for index, ((number, target), (map, read, more)) in enumerate(zip(pairs, maps, strict=True)):
                row = logits[number]
                found[index, name] = Explanation(
                    names[number],
                    name,
                    target.name,
                    values[index],
                    None if row is None else target.probability(row),
                    map.cpu().numpy(),
                    read.cpu().numpy(),
                    images[number],
                    self.layer.address if method.of_layer and self.layer else "",
                    more,
                )
        if self.checked:
            self._check(found, repeated, targets)
        return [
            ExplainedImage(
                self._predicted(row),
                tuple(found[index, name] for index, (n, _) in enumerate(pairs) if n == number for name in self.methods),
            )
            for number, row in enumerate(logits)
        ]

    def _maps(
        self, scorer: Scorer, method: Method, images: Tensor, targets: Sequence[Target], **changes: Any
    ) -> list[tuple[Tensor, Tensor, dict[str, Any]]]:
        """(the map, the importance of each pixel, what else is told) of each image. changes: of hyperparameters."""
        size = (images.shape[2], images.shape[3])
        made = method.compute(scorer, images, targets, replace(self.hyperparameters, **changes))
        return [
            (
                each.values.detach().float(),
                importance(each.values.detach().float(), method.meaning, size),
                dict(each.more),
            )
            for each in made
        ]

    def _predicted(self, logits: Tensor | None) -> dict[str, Any] | None:
        if logits is None:
            return None
        index = int(logits.argmax())
        probability = logits.float().softmax(0)[index].item()
        return {"label": self.model.classes[index], "index": index, "probability": probability}

    def _logits(self, images: Tensor) -> Tensor:
        """Of normalized images, (N, classes)."""
        last, found = self.targets.last.address, []
        for part in images.split(self.scorer.chunk):
            with torch.no_grad(), self.runtime.autocast():
                found.append(self._classifier(part)[last].float())
        return torch.cat(found)

    @cached_property
    def _classifier(self) -> Callable[[Tensor], Any]:
        return partial(of_normalized, self.scorer.computing([self.targets.last.address]))

    # -- checks ------------------------------------------------------------------------------------------------

    def _check(self, found: dict[tuple[int, str], Explanation], images: Tensor, targets: Sequence[Target]) -> None:
        """Measure the faithfulness of maps, and how similar those of random networks are to them."""
        references = [self._references(image, target) for image, target in zip(images, targets, strict=True)]
        for name, method in self.methods.items():
            similar = self._similarities(name, method, found, images, targets)
            for index, (image, target) in enumerate(zip(images, targets, strict=True)):
                explanation = found[index, name]
                order = faithfulness.by_importance(torch.from_numpy(explanation.importance))
                own = faithfulness.curves(image, order.to(image.device), self._strength(image, target))
                failed = [reference for reference, curves in references[index].items() if own.score <= curves.score]
                if similar[index]["half"] >= sanity_check.SIMILAR:
                    failed.append("sanity")
                checks = {
                    **own.as_json(),
                    **{reference: curves.as_json() for reference, curves in references[index].items()},
                    "sanity": similar[index],
                    "failed": failed,
                }
                found[index, name] = replace(explanation, checks=checks)

    def _references(self, image: Tensor, target: Target) -> dict[str, faithfulness.Curves]:
        strength = self._strength(image, target)
        orders = {
            "random": faithfulness.at_random(image, self.hyperparameters.seed),
            "center": faithfulness.from_center(image.shape[1]),
        }
        return {name: faithfulness.curves(image, order.to(image.device), strength) for name, order in orders.items()}

    def _strength(self, image: Tensor, target: Target) -> Callable[[Tensor], Tensor]:
        """Of the answer: the probability of a class; else the value, 0 as for a gray image up to 1 as for this one."""
        if target.index is not None:

            def of_class(images: Tensor) -> Tensor:
                return torch.tensor([target.probability(row) for row in self._logits(images)])

            return of_class
        ends = self.scorer.values(torch.stack([torch.zeros_like(image), image]), [target] * 2)
        low, high = ends.tolist()

        def of_value(images: Tensor) -> Tensor:
            return (self.scorer.values(images, [target] * len(images)) - low) / ((high - low) or 1.0)

        return of_value

    def _similarities(
        self,
        name: str,
        method: Method,
        found: dict[tuple[int, str], Explanation],
        images: Tensor,
        targets: Sequence[Target],
    ) -> list[dict[str, float]]:
        similar: list[dict[str, float]] = [{} for _ in targets]
        # A random network may not change along the path, and no refinement would make that complete
        steps = self.hyperparameters.path_steps or sanity_check.PATH_STEPS
        for level, scorer in self._random_scorers.items():
            for index, (_, read, _) in enumerate(self._maps(scorer, method, images, targets, path_steps=steps)):
                before = torch.from_numpy(found[index, name].importance)
                similar[index][level] = sanity_check.similarity(before, read.cpu())
        return similar

    @cached_property
    def _random_scorers(self) -> dict[str, Scorer]:
        """Networks whose weights are random, from the top."""
        return {
            level: Scorer(
                sanity_check.randomized(self.model, fraction, self.hyperparameters.seed),
                self.targets.objectives,
                self.runtime,
                self.layer,
            )
            for level, fraction in sanity_check.LEVELS.items()
        }


def write(explained: ExplainedImage, source: Path, file: Path, record: dict[str, Any]) -> None:
    """Overlays and maps beside `file`, the JSON, which is written last. record: what else it says.

    source: the file of the image, which the sheet names.

    Raises MlcliError where one cannot be written.
    """
    name, told = file.name.removesuffix(".json"), []
    slugs = _slugs(list(dict.fromkeys(each.target for each in explained.explanations)))
    for each in explained.explanations:
        own = ".".join(filter(None, (name, each.method, slugs[each.target])))
        image_io.write(each.drawn, file.with_name(f"{own}.png"), flush=False)
        with files.atomic_write(file.with_name(f"{own}.npy"), flush=False) as temporary:
            np.save(temporary, np.ascontiguousarray(each.map), allow_pickle=False)
        told.append({**each.as_json(), "map": f"{own}.npy", "overlay": f"{own}.png"})
    if len(explained.explanations) > 1:
        image_io.write(sheet(explained, source.name), file.with_name(f"{name}.{SHEET}.png"), flush=False)
    files.write_json(file, {**record, "predicted": explained.predicted, "explanations": told})


def is_whole(file: Path) -> bool:
    """Whether this is a JSON file of `write`, and all that was written with it is there."""
    try:
        told = schema.read_json(file, WRITTEN)["explanations"]
        names = [each[kind] for each in told for kind in ("map", "overlay")]
        if len(told) > 1:
            names.append(f"{file.name.removesuffix('.json')}.{SHEET}.png")
        return all(os.path.isfile(file.with_name(name)) for name in names)
    except (OSError, ValueError):  # damaged, or with names that are none of files
        return False


def sheet(explained: ExplainedImage, name: str) -> "Image.Image":
    """The image of this name and all overlays of it: a row for each target, a column for each method."""
    some = explained.explanations[0]
    methods = list(dict.fromkeys(each.method for each in explained.explanations))
    targets = dict.fromkeys(each.target for each in explained.explanations)
    cells = {(each.target, each.method): each for each in explained.explanations}
    rows = [
        (target, [(cells[target, method].drawn, _caption(cells[target, method])) for method in methods])
        for target in targets
    ]
    signed = {bool((each.importance < 0).any()) for each in explained.explanations}
    predicted = explained.predicted
    title = name
    if predicted is not None:
        title += f": {predicted['label']} {predicted['probability']:.1%}"
    return attribution_images.sheet(title, some.pixels, methods, rows, signed=True in signed, unsigned=False in signed)


def _caption(each: Explanation) -> str:
    told = []
    if each.failed:
        told.append("fails: " + ", ".join(each.failed))
    error = each.more.get("completeness", {}).get("error")
    if error is not None:
        told.append(f"completeness: error {error:.2%}")
    return "; ".join(told)


def _slugs(targets: Sequence[str]) -> dict[str, str]:
    """Part of the file names of each target; empty for an only one."""
    if len(targets) == 1:
        return {targets[0]: ""}
    found: dict[str, str] = {}
    for target in targets:
        slug = files.file_name(target.replace(" ", "_")).encode()[:SLUG].decode("utf-8", "ignore")
        while slug in found.values():
            slug += "_"
        found[target] = slug
    return found

"""The images of `mlcli adapt`: both domains and the test set, each decoded once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mlcli.api import inputs, runs
from mlcli.api.common import Trains
from mlcli.api.events import Progress, complain
from mlcli.data import domains
from mlcli.data.domains import Domain
from mlcli.data.folders import ClassFolder
from mlcli.data.image_dataset import ImageDataset
from mlcli.data.sources import find_images
from mlcli.errors import DataError, UsageError
from mlcli.imaging import image_io
from mlcli.io import input_files
from mlcli.methods.adaptation.registry import Adaptation
from mlcli.models import pretrained, registry, sizes
from mlcli.models.model import Model


@dataclass(frozen=True)
class Data:
    """The domains of a run.

    source: empty where a model is adapted without it.
    labeled_target: the images of `target` that have labels, where these are to be used.
    native: images (N, 3, S, S) of both domains before any conversion to gray, for the checks of the domains.
    """

    source: Domain
    target: Domain
    classes: tuple[str, ...]
    labeled_target: Domain | None
    test: Domain | None
    native: tuple[Tensor, Tensor]

    def summary(self) -> dict[str, dict[str, Any]]:
        """The entries of config.json; for the target nothing that depends on labels or names."""
        sets = {"source": self.source, "target": self.target, "test": self.test}
        return {name: _summary(domain) for name, domain in sets.items() if domain}


def _summary(domain: Domain) -> dict[str, Any]:
    low, high = (int(value) for value in domain.images.aminmax())
    return {
        "count": len(domain),
        "size": domain.size,
        "channels": domain.channels,
        "value_range": [low, high],
        "hash": domain.digest(),
    }


def folders(options: Mapping[str, Any]) -> tuple[str | None, str]:
    """(SOURCE, TARGET) of the options; a folder that is named alone is TARGET."""
    return (options["source"], options["target"]) if options["target"] else (None, options["source"])


def read(
    options: Mapping[str, Any],
    configs: Sequence[Adaptation],
    model: Model | None,
    source_model: Model | None,
    trains: Trains,
) -> Data:
    """Read the domains that the options name.

    configs: of the methods that are given the same images.  model: what the networks begin with, if anything.
    source_model: the model of the source, if none is to be trained.  trains: how images are decoded. Raises UsageError,
    DataError.
    """
    segment = options["task"] == "segment"
    of_source, of_target = folders(options)
    paths = inputs.files_named([_images_folder(of_target, segment)])
    size = options["size"] or (source_model.preprocessing.crop if source_model else None)
    if not size:
        assert of_source is not None
        size = _size(find_images([str(_images_folder(of_source, segment))]).paths, paths, configs, model)
    reader: _Reader = _Masks(size, trains) if segment else _Classes(size, trains)
    if of_source:
        source, classes = reader.labeled(of_source, source_model.classes if source_model else None)
    else:
        assert source_model is not None
        source, classes = Domain.empty(size, 3), source_model.classes
    target = reader.unlabeled(of_target, paths)
    known = reader.with_labels(target, of_target, classes) if options["target_labels"] else None
    test = reader.labeled(options["test"], classes)[0] if options["test"] else None
    if len(classes) < 2:
        raise UsageError(f"{of_source}: one class, two are needed")
    native = source.images, target.images
    gray = options["gray"] or all(bool((images[:, :1] == images).all()) for images in native)
    if learned := source_model or model:
        channels = learned.preprocessing.channels
    else:  # only networks that are made for small images are given one channel
        channels = 1 if gray and all(registry.trainable(each.model).follows_images for each in configs) else 3

    def converted(domain: Domain) -> Domain:
        return domain.with_images(_gray(domain.images, channels)) if options["gray"] or channels == 1 else domain

    return Data(
        converted(source.in_order()),
        converted(target.in_order()),
        tuple(classes),
        known and converted(known.in_order()),
        test and converted(test),
        native,
    )


def _gray(images: Tensor, channels: int) -> Tensor:
    """Gray images (N, C, S, S), with one channel or with three equal ones."""
    return image_io.to_gray(images).expand(-1, channels, -1, -1).contiguous()


def _images_folder(root: str, segment: bool) -> Path:
    """The folder that the images of a domain are in: its images/ where masks lie beside it."""
    inside = Path(root) / "images"
    return inside if segment and input_files.is_folder(inside) else Path(root)


def _size(source: Sequence[Path], target: Sequence[Path], configs: Sequence[Adaptation], model: Model | None) -> int:
    """The larger of the first images' sides of both domains, at most what suits, as a multiple that generators take."""
    largest = 0 if model else min(registry.trainable(each.model).default_size for each in configs)
    sides = [
        pretrained.default_size(model, paths) if model else sizes.first_side(paths, sizes.LEAST, largest)
        for paths in (source, target)
    ]
    multiple = 8 if any(each.translates for each in configs) else 4
    return -(-max(sides) // multiple) * multiple


class _Reader(Protocol):
    """How a task reads the domains."""

    def labeled(self, root: str, classes: Sequence[str] | None) -> tuple[Domain, Sequence[str]]:
        """(a domain with its labels, its classes). classes: those of the source; None for the source itself."""

    def unlabeled(self, root: str, paths: Sequence[Path]) -> Domain:
        """The images of the target. Their labels are not read."""

    def with_labels(self, target: Domain, root: str, classes: Sequence[str]) -> Domain:
        """Those images of the target, which are read already, that have labels."""


class _Classes:
    """Domains whose labels are classes, each a folder of images."""

    def __init__(self, size: int, trains: Trains) -> None:
        self.size, self.trains = size, trains

    def _read(self, folder: ClassFolder) -> ImageDataset:
        domains.require_memory(folder.root, len(folder.paths), self.size, 3, self.trains.cache_bytes)
        return runs.read_images(folder, self.size, 3, self.trains)

    def labeled(self, root: str, classes: Sequence[str] | None) -> tuple[Domain, Sequence[str]]:
        folder = inputs.class_folder(root, classes, learns=classes is None)
        if classes is None:
            folder, _, images = runs.read_training(folder, None, self._read)
        else:
            images = self._read(folder)
        return Domain.classified(root, images, labeled=True), folder.classes

    def unlabeled(self, root: str, paths: Sequence[Path]) -> Domain:
        return Domain.classified(root, self._read(ClassFolder.of_one(paths)), labeled=False)

    def with_labels(self, target: Domain, root: str, classes: Sequence[str]) -> Domain:
        folder = inputs.class_folder(root, classes, learns=False)
        numbers = {os.path.realpath(path): number for number, path in enumerate(target.paths)}
        named = ((os.path.realpath(path), label) for path, label in zip(folder.paths, folder.labels, strict=True))
        # An image that is not among those of the target could not be read, which has been said
        known = [(numbers[path], label) for path, label in named if path in numbers]
        if not known:
            raise DataError(f"{root}: no readable image in it")
        indices, labels = torch.tensor(known).T
        return replace(target.part(indices), labels=labels)


class _Masks:
    """Domains whose labels are masks: images/ and masks/, whose files have equal names."""

    def __init__(self, size: int, trains: Trains) -> None:
        self.size = size
        self.allowed = trains.cache_bytes
        self.loading = {"workers": trains.workers, "budget_bytes": self.allowed}
        self.sizes: Mapping[Path, Sequence[int]] = {}  # height and width of the files of the target

    def labeled(self, root: str, classes: Sequence[str] | None) -> tuple[Domain, Sequence[str]]:
        pairing = domains.masks_beside(root)
        domains.require_memory(root, len(pairing.paths), self.size, 4, self.allowed)
        with Progress(len(pairing.paths), f"reading {root}") as bar:
            dataset = domains.read_masked(pairing, self.size, **self.loading, progress=lambda done, _: bar.to(done))
        for problem in (*pairing.problems, *dataset.problems):
            complain(problem)
        return domains.segmented(root, dataset, classes)

    def unlabeled(self, root: str, paths: Sequence[Path]) -> Domain:
        domains.require_memory(root, len(paths), self.size, 3, self.allowed)
        with Progress(len(paths), f"reading {root}") as bar:
            dataset = domains.read_unmasked(paths, self.size, **self.loading, progress=lambda done, _: bar.to(done))
        for problem in dataset.problems:
            complain(problem)
        domain, self.sizes = domains.unsegmented(root, dataset)
        return domain

    def with_labels(self, target: Domain, root: str, classes: Sequence[str]) -> Domain:
        pairing = domains.masks_beside(root)
        with Progress(len(pairing.paths), f"reading the masks of {root}") as bar:
            domain, problems = domains.with_masks(
                target,
                pairing,
                self.sizes,
                classes,
                **self.loading,
                progress=lambda done, _: bar.to(done),
            )
        for problem in (*pairing.problems, *problems):
            complain(problem)
        return domain

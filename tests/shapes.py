"""Two tiny domains: bars and crosses bright on dark, and the same paler, blurred and noisy."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mlcli.data.domains import Domain
from mlcli.imaging.image_io import to_pillow
from mlcli.methods.adaptation.context import AdaptationContext
from mlcli.methods.adaptation.registry import Adaptation
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import generator
from mlcli.training.loop import fit
from mlcli.training.run_folder import Run

CLASSES = ("across", "cross", "upright")
CPU = torch.device("cpu")


def draw(count: int, seed: int = 0, size: int = 16) -> tuple[Tensor, Tensor]:
    """(images (count, 1, size, size) in [0, 1], labels (count,)): classes in turn, at random positions."""
    random = generator(seed)
    images, labels = torch.zeros(count, 1, size, size), torch.arange(count) % 3
    centers = torch.randint(4, size - 4, (count, 2), generator=random)
    for image, label, (y, x) in zip(images, labels.tolist(), centers.tolist(), strict=True):
        if label != 2:
            image[0, y - 1 : y + 1, x - 4 : x + 4] = 1
        if label != 0:
            image[0, y - 4 : y + 4, x - 1 : x + 1] = 1
    return images, labels


def target_style(images: Tensor, seed: int = 0) -> Tensor:
    """Another scanner: paler, blurred, noisy."""
    noise = torch.randn(images.shape, generator=generator(seed, 1)) * 0.08
    return (0.35 + 0.45 * F.avg_pool2d(images, 3, 1, 1) + noise).clamp(0, 1)


def domain(count: int, seed: int = 0, target: bool = False) -> Domain:
    images, labels = draw(count, seed)
    images = target_style(images, seed) if target else images
    whole = (images * 255).round().to(torch.uint8)
    return Domain(whole, [Path(f"{number:03d}.png") for number in range(count)], labels)


def write(root: Path, count: int, seed: int = 0, target: bool = False, labeled: bool = True) -> Path:
    """root/CLASS/NNN.png; without labels root/NNN.png."""
    data = domain(count, seed, target)
    for image, path, label in zip(data.images, data.paths, data.labels.tolist(), strict=True):
        file = (root / CLASSES[label] if labeled else root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        to_pillow(image).save(file)
    return root


def write_masks(root: Path, count: int, seed: int = 0, target: bool = False) -> Path:
    """root/images/NN.png and root/masks/NN.png, in which class 1 is the shape."""
    images, _ = draw(count, seed)
    styled = target_style(images, seed) if target else images
    for number in range(count):
        for folder, values in (("images", (styled[number, 0] * 255).round()), ("masks", images[number, 0])):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.to(torch.uint8).numpy()).save(root / folder / f"{number:02d}.png")
    return root


def context(
    folder: Path, config: Adaptation, source: Domain | None = None, target: Domain | None = None, seed: int = 0
) -> AdaptationContext:
    """One run in a folder, with the stages as run folders in it."""
    processes = Processes(CPU)

    def train(run: Run, method, plan) -> None:
        if not run.exists():
            run.create({"command": "adapt", "options": {}, "data": {}})
        fit(method, plan, run, processes)

    source, target = source or domain(90), target or domain(90, 1, target=True)
    runtime = Runtime(CPU, "fp32")
    return AdaptationContext(
        source,
        replace(target, labels=None),
        CLASSES,
        config,
        seed,
        runtime,
        processes,
        lambda name: Run(folder / name),
        train,
    )

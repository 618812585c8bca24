"""Run folders with untrained models of every kind that is exported, tiny."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from mlcli.data.pairs import ImageSpec
from mlcli.methods.generation.sampling import Sampler
from mlcli.methods.metric_learning import embedder
from mlcli.methods.metric_learning.roc import Roc
from mlcli.models import artifacts, registry, translators
from mlcli.networks.dcgan import Generator
from mlcli.runtime.device import Runtime
from mlcli.training.run_folder import Run

CPU = Runtime.choose("cpu", "fp32")


def varied(network: nn.Module) -> nn.Module:
    """Batch norms as of a trained network, whose statistics are not 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


def classifier(folder: Path, architecture: str = "smallnet", channels: int = 3) -> None:
    model = registry.create(architecture, ["cat", "dog", "owl"], 16, channels)
    artifacts.save(folder / artifacts.MODEL_FILE, varied(model.network).state_dict(), model.describe())


def segmenter(folder: Path) -> None:
    model = registry.create("unet", ["background", "heart"], 16, 1)
    artifacts.save(folder / artifacts.MODEL_FILE, varied(model.network).state_dict(), model.describe())


def siamese(folder: Path, layer: str = "") -> None:
    calibration = embedder.Calibration.of(Roc(torch.arange(5.0), torch.arange(5.0) + 2), None)
    model = registry.create("cifarnet" if layer else "smallnet", ["a", "b", "c", "d"], 20, 3 if layer else 1)
    space = embedder.Whitened(384 * embedder.REGIONS**2) if layer else embedder.Sphere(4)
    if layer:
        space.load_state_dict({name: torch.randn_like(tensor) for name, tensor in space.state_dict().items()})
    varied(model.network)
    made = embedder.Siamese(model, space, 3, True, False, CPU, calibration, layer)
    artifacts.save(folder / artifacts.MODEL_FILE, made.state(), made.describe())


def translator(folder: Path, name: str = "unet", labels: int = 0) -> None:
    made = {
        direction: translators.create(name, ImageSpec(labels=labels), ImageSpec(), (16, 16), filters=4, norm="instance")
        for direction in ("AtoB", "BtoA")
    }
    translators.save(Run(folder), made, {direction: each.network for direction, each in made.items()})


def generator(folder: Path, classes: tuple[str, ...] = ()) -> None:
    network = Generator(16, 3, 8, 4, len(classes))
    description = Sampler(network, classes, CPU).describe()
    artifacts.save(folder / artifacts.MODEL_FILE, varied(network).state_dict(), description)


KINDS: dict[str, Callable[[Path], None]] = {
    "classifier": classifier,
    "gray classifier": lambda folder: classifier(folder, "lenet", 1),
    "segmenter": segmenter,
    "siamese": siamese,
    "siamese of regions": lambda folder: siamese(folder, "conv4"),
    "pix2pix": translator,
    "cyclegan": lambda folder: translator(folder, "resnet-6"),
    "label maps": lambda folder: translator(folder, labels=3),
    "gan": generator,
    "conditional gan": lambda folder: generator(folder, ("cat", "dog")),
}


def write(folder: Path, kind: str) -> Path:
    """A run folder that holds a model of this kind."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    with torch.no_grad():
        KINDS[kind](folder)
    (folder / "config.json").write_text("{}")
    return folder

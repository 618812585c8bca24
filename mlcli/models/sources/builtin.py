"""The networks of mlcli.networks: `cifarnet`, whose weights are in the package, and those to train from scratch.

`sobel` is an edge detector without classes, for comparison with learned filters. A new architecture is a file in
mlcli.networks and an entry in ARCHITECTURES.
"""

from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from mlcli.data.class_names import ClassNames
from mlcli.data.preprocessing import LARGEST, Preprocessing
from mlcli.io import schema
from mlcli.models import artifacts
from mlcli.models.artifacts import Artifact
from mlcli.models.fitting import fill
from mlcli.models.sources.source import Architecture, Entry, Options, PretrainedSpec, Source, TrainingDefaults
from mlcli.networks.cifarnet import CifarNet
from mlcli.networks.lenet import DigitsNet, LeNet, NormalizedLeNet
from mlcli.networks.norms import NORMS
from mlcli.networks.smallnet import SmallNet
from mlcli.networks.sobel import Sobel
from mlcli.networks.unet import Segmenter, fitting_depth

EMBEDDED, SOBEL, SMALLNET, SEGMENTER = "cifarnet", "sobel", "smallnet", "unet"
OPTIONS = schema.record(
    {},
    {
        "channels": schema.choice(1, 3),
        "size": schema.integer(4, LARGEST),
        "width": schema.integer(1, 1024),
        "depth": schema.integer(1, 12),
        "filters": schema.integer(1, 4096),
        "norm": schema.choice(*NORMS),
    },
    closed=True,
)


@cache
def _embedded() -> Artifact:
    """The weights of cifarnet."""
    return artifacts.read(Path(str(resources.files("mlcli") / "weights" / "cifarnet.safetensors")))


def _embedded_spec() -> PretrainedSpec:
    description = _embedded().description
    return PretrainedSpec(ClassNames(tuple(description["classes"])), Preprocessing.of(description["preprocessing"]))


def _sobel_spec() -> PretrainedSpec:
    return PretrainedSpec(ClassNames(()), Preprocessing(crop=128, mean=(0.0,) * 3, std=(1.0,) * 3))


def _channels_alone(size: int, channels: int) -> Options:
    return {"channels": channels}


def _channels_and_size(size: int, channels: int) -> Options:
    return {"channels": channels, "size": size}


def _own(
    name: str,
    builder: Callable[..., nn.Module],
    options_for: Callable[[int, int], Options] = _channels_alone,
    **values: Any,
) -> Architecture:
    """An architecture that is made for small images, gray or in color, and comes without weights."""
    values = {"pretrained": None, "channels": (1, 3), "default_size": 64, "follows_images": True} | values
    return Architecture(name, builder, OPTIONS, options_for, **values)


ARCHITECTURES = {
    entry.name: entry
    for entry in (
        _own(
            EMBEDDED,
            CifarNet,
            lambda size, channels: {"channels": channels} if channels != 3 else {},
            pretrained=_embedded_spec,
            smallest=16,
            training=TrainingDefaults(optimizer="muon", largest_batch=1000),  # each of its weights has a batch norm
        ),
        _own(SOBEL, lambda classes: Sobel(), pretrained=_sobel_spec, trainable=False),
        _own(SMALLNET, SmallNet, _channels_and_size),
        _own("lenet", LeNet, _channels_and_size),
        _own("lenet-bn", NormalizedLeNet, _channels_and_size),
        _own("digits", DigitsNet),
        _own(
            SEGMENTER,
            Segmenter,
            lambda size, channels: {"channels": channels, "depth": min(4, fitting_depth(size, size))},
        ),
    )
}


class BuiltinModels(Source):
    def names(self) -> list[str]:
        return [name for name, known in ARCHITECTURES.items() if known.pretrained]

    def resolve(self, name: str) -> str | None:
        return name if name in ARCHITECTURES else None

    def architecture(self, name: str) -> Architecture:
        return ARCHITECTURES[name]

    def stored(self, name: str) -> Path | None:
        return _embedded().file if name == EMBEDDED else None

    def fetch(self, name: str, network: nn.Module) -> Path | None:
        """Load what cifarnet has learned; the kernels of sobel are part of its code."""
        if name == SOBEL:
            return None
        fill(network, _embedded().tensors, _embedded().file)
        return _embedded().file

    def entry(self, name: str) -> Entry:
        known = ARCHITECTURES[name]
        assert known.pretrained is not None
        spec = known.pretrained()
        classes = len(spec.names.labels)
        million = sum(parameter.numel() for parameter in known.build(classes, {}).parameters()) / 1e6
        return Entry(name, round(million, 1), spec.preprocessing.crop, classes, None, "MIT", True)


BUILTIN = BuiltinModels()

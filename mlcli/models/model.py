"""A classifier with everything that belongs to it: its network, classes, preprocessing and layers."""

import hashlib
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcli.data.class_names import ClassNames
from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError, WeightsError, did_you_mean
from mlcli.models.artifacts import CLASSIFIER, SEGMENTER
from mlcli.models.sources import builtin
from mlcli.runtime.device import Runtime


@dataclass
class Model:
    """A network with what is needed to use it.

    name: as the user named it.
    classes: the labels of the outputs, no two equal; empty for a network that is no classifier.
    architecture, options: by which the network is built again; `weights_file`: from which its weights were read.
    wnids: the WordNet ids of the classes; empty where they are no synsets.
    """

    name: str
    network: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str
    weights_file: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    wnids: tuple[str, ...] = ()
    traced: Any = field(default=None, init=False, repr=False, compare=False)  # the graph, which structure.graph keeps

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W), uint8 or float in [0, 1] -> logits (N, classes). Raises UsageError without classes."""
        self.require_classes()
        return logits(self.network(self.normalized(images)))

    def to(self, runtime: Runtime) -> "Model":
        """The model with its network on the runtime's device, in its memory format."""
        self.network.to(runtime.device).to(memory_format=runtime.memory_format)
        return self

    def prepared(self, images: Tensor) -> Tensor:
        """Gray or color images (N, 1 or 3, H, W) of any size, as the model takes them, of the same dtype."""
        return torch.stack([self.preprocessing.prepare(image) for image in images.expand(-1, 3, -1, -1)])

    def normalized(self, images: Tensor) -> Tensor:
        """What the network itself is given, in the memory format of its weights."""
        images = self.preprocessing.normalize(images)
        weights = next((p for p in self.network.parameters() if p.ndim == 4), None)
        if weights is not None and weights.is_contiguous(memory_format=torch.channels_last):
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def finite(self, values: Tensor, runtime: Runtime) -> Tensor:
        """The values that the network computed. Raises WeightsError where one of them is no number."""
        if not values.isfinite().all():
            advice = ", or try --precision fp32" if runtime.precision != "fp32" else ""
            raise WeightsError(
                f"{self.name}: answers with no number in {runtime.precision}; its weights are damaged{advice}"
            )
        return values

    def require_classes(self) -> None:
        """Raise UsageError where the model is no classifier."""
        if not self.classes:
            lacking = f" by the weights of {self.weights_file}; finetune it, or" if self.weights_file else ";"
            raise UsageError(f"--model {self.name}: knows no classes{lacking} take a classifier (see `mlcli models`)")

    @property
    def names(self) -> ClassNames:
        return ClassNames(self.classes, self.wnids)

    def class_index(self, name: str) -> int:
        """Index of a class by its label, WordNet id, synonym or number.

        Raises UsageError with the nearest names for an unknown one, with the ids for one that stands for several.
        """
        names = self.names
        found = names.matches(name)
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(names.ambiguity(name, found))
        raise UsageError(f"{name}: no class of {self.name}{did_you_mean(name, self.classes)}")

    @cached_property
    def hash(self) -> str:
        """sha256 of the weights (names, shapes and values); what a result is reproduced by."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
        return digest.hexdigest()

    @property
    def has_batch_norm(self) -> bool:
        return any(isinstance(module, nn.BatchNorm2d) for module in self.network.modules())

    def describe(self) -> dict[str, Any]:
        """What a file of weights has to say of itself to be opened again."""
        # By itself, or behind a generator
        segments = builtin.SEGMENTER in (self.architecture, self.options.get("architecture"))
        return {
            "kind": (SEGMENTER if segments else CLASSIFIER).name,
            "architecture": self.architecture,
            "options": self.options,
            "classes": list(self.classes),
            **({"wnids": list(self.wnids)} if self.wnids else {}),
            "preprocessing": asdict(self.preprocessing),
        }


def logits(output: Any) -> Tensor:
    """The logits of a network's output (GoogLeNet and Inception in training return auxiliary ones as well)."""
    return output if isinstance(output, Tensor) else output[0]

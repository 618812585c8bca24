"""What is exported: a network of plain tensors with what a file has to say of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

IMAGES = "images"  # the input of every network that takes images
INSIDE = "preprocessing_inside"  # in a description: whether the file takes images of any size, as bytes
LOGITS, FEATURES = "logits", "features"  # the outputs of a classifier

# How the outputs of the original and of the file are compared
CLASSES = "same first class"
PIXELS = "same class of pixels"
VALUES = "correlation"


@dataclass(frozen=True)
class Subject:
    """A network to export.

    kind: as the file calls it, such as "classifier".
    network: of the inputs, in order, to a tuple of the outputs; in fp32 on the CPU, in evaluation mode.
    inputs: two examples of each input, by name.
    outputs: names; the first is what is compared by `measure`, the others by their values.
    free: which dimensions of an input or output may have any length, with a name of each.
    description: JSON values that a file needs to be used: classes, preprocessing and the like.
    read: the file of an image -> what `images` takes, without the batch; None where the input is no image.
    measure: CLASSES, PIXELS or VALUES.
    """

    kind: str
    network: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    free: Mapping[str, Mapping[int, str]]
    description: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[Path], Tensor] | None = None
    measure: str = VALUES

    @torch.no_grad()
    def compute(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs of the original network."""
        return list(self.network(*inputs))


def batches(names: Mapping[str, Mapping[int, str]] | tuple[str, ...]) -> dict[str, dict[int, str]]:
    """The first dimension of each of these inputs and outputs is free."""
    return {name: {0: "batch"} for name in names}

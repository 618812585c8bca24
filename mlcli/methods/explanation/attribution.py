"""What a method of explanation gives for one image, and how its numbers are read as one map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target

# What the numbers of a map mean
CONTRIBUTION = "contribution"  # (C, H, W), of each value of the normalized input; they may be added up
GRADIENT = "gradient"  # (C, H, W), how the target changes with each value; the sign tells nothing of importance
REGION = "region"  # (h, w), the importance of each part of the image


@dataclass(frozen=True)
class Attribution:
    """The map of one image, float32, and what else is to be said of how it was made."""

    values: Tensor
    more: Mapping[str, Any] = field(default_factory=dict)


# (scorer, normalized images (N, C, H, W), the target of each, hyperparameters) -> the attribution of each
Compute = Callable[[Scorer, Tensor, Sequence[Target], Explaining], list[Attribution]]


@dataclass(frozen=True)
class Method:
    """meaning: of the numbers of its maps.  of_layer: whether it needs a layer with positions."""

    compute: Compute
    meaning: str
    of_layer: bool = False


def importance(values: Tensor, meaning: str, size: tuple[int, int]) -> Tensor:
    """The importance of each pixel of the network's input (H, W), of a map (C, H, W) or (h, w).

    Contributions of the channels are added up, of gradients the largest absolute value of a channel is taken (Simonyan
    et al. 2014), and the maps of layers are enlarged, bilinear.
    """
    if meaning == CONTRIBUTION:
        return values.sum(0)
    if meaning == GRADIENT:
        return values.abs().amax(0)
    return F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)[0, 0]

"""The architecture that tensors belong to, named where they were given to another."""

import difflib
from collections.abc import Mapping

import torch
from torch import Tensor

from mlcli.errors import WeightsError
from mlcli.models.fitting import Misfit, fitted
from mlcli.models.sources import timm_models, torchvision_models
from mlcli.models.sources.timm_models import TIMM
from mlcli.models.sources.torchvision_models import TORCHVISION

RUNNING = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms, which are no parameters
NEAREST = 5  # architectures of timm that are tried, by name
MOST = 3  # that are named


def advice(tensors: Mapping[str, Tensor], architecture: str) -> str:
    """'; it looks like --model resnet34', as the end of a message; empty where nothing known is like it.

    torchvision's architectures of as many parameters are tried, then timm's whose names are near the one given.
    """
    for names in (_of_as_many_parameters(tensors), _near(architecture)):
        if found := [name for name in names if name != architecture and _fits(tensors, name)]:
            return f"; it looks like --model {' or '.join(found[:MOST])}"
    return ""


def _of_as_many_parameters(tensors: Mapping[str, Tensor]) -> list[str]:
    count = _parameters(tensors, 1000)
    return [name for name in TORCHVISION.names() if abs(torchvision_models.parameters(name) - count) <= 0.001 * count]


def _near(architecture: str) -> list[str]:
    bare = architecture.removeprefix(timm_models.PREFIX).partition(".")[0]
    return difflib.get_close_matches(timm_models.PREFIX + bare, TIMM.names(), n=NEAREST)


def _parameters(tensors: Mapping[str, Tensor], classes: int) -> int:
    """How many parameters there were if the last layer, which comes last, had so many classes."""
    sizes = {key: tensor.shape for key, tensor in tensors.items() if not key.endswith(RUNNING)}
    matrices = [shape for shape in sizes.values() if len(shape) > 1]
    if not matrices:
        return 0
    own, *inputs = matrices[-1]
    return sum(shape.numel() for shape in sizes.values()) + (classes - own) * (torch.Size(inputs).numel() + 1)


def _fits(tensors: Mapping[str, Tensor], name: str) -> bool:
    """Whether the tensors are those of this architecture but for the number of classes; nothing is allocated."""
    known = (TORCHVISION if TORCHVISION.resolve(name) else TIMM).architecture(name)
    try:
        with torch.device("meta"):
            network = known.build(1000, {})
        return Misfit.between(fitted(tensors, network, name), network.state_dict()).fits_but_for_classes()
    except (RuntimeError, NotImplementedError, WeightsError):
        return False  # its builder computes with numbers, which meta tensors lack; or there are several networks

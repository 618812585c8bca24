"""The sanity check of Adebayo et al. 2018: a map of what a network has learned changes when that is taken away.

The weights are replaced by random ones from the top: those of the last half of the layers, then all. The similarity of
the maps before and after is the rank correlation of the absolute importance of the pixels. A map that stays as it is
shows the image, edges above all, rather than the network.

Deviation: batch norms are given the statistics of smooth noise by the random network, so that its activations are of
the scale of a trained one's; with the old statistics many are zero, and every map would pass.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.runtime.random_streams import rng

LEVELS = {"half": 0.5, "all": 1.0}  # the fraction of the layers with weights, from the top, that are random
SIMILAR = 0.5  # of the maps before and after, from which on a map fails, with the upper half at random
PATH_STEPS = 20  # of integrated gradients by random networks
NORMS = (nn.BatchNorm2d, nn.BatchNorm1d, nn.SyncBatchNorm, nn.LayerNorm, nn.GroupNorm)


def randomized(model: Model, fraction: float, seed: int) -> Model:
    """The model with random weights in this fraction of its layers, from the top; the model itself stays as it is."""
    network = copy.deepcopy(model.network).eval()
    weighted = [layer.weights for layer in features.layers(model) if layer.weights]
    chosen = weighted[len(weighted) - max(1, round(fraction * len(weighted))) :]
    random = rng(seed, "sanity-check/weights")
    norms = []
    done: set[str] = set()
    for name in (name for names in chosen for name in names):
        path, _, own = name.rpartition(".")
        module = network.get_submodule(path)
        if isinstance(module, NORMS):
            if path not in done:
                module.reset_parameters()
                norms.append(module)
                done.add(path)
            continue
        _randomize(getattr(module, own), random)
    moving = [norm for norm in norms if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    result = replace(model, network=network)
    if moving:
        _calibrate(result, moving, random)
    return result


@torch.no_grad()
def _randomize(weights: Tensor, random: torch.Generator) -> None:
    """He et al.'s initialization of weights; biases become zero."""
    if weights.ndim < 2:
        weights.zero_()
        return
    scale = (2 / weights[0].numel()) ** 0.5
    weights.copy_(scale * torch.randn(weights.shape, generator=random))


@torch.no_grad()
def _calibrate(model: Model, norms: Sequence[nn.modules.batchnorm._BatchNorm], random: torch.Generator) -> None:
    """Give batch norms the statistics of smooth noise."""
    side, channels = model.preprocessing.crop, model.preprocessing.channels
    coarse = torch.rand(8, channels, 8, 8, generator=random)
    images = F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    device = next(model.network.parameters()).device
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = None
    model.network(model.normalized(images.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def similarity(before: Tensor, after: Tensor) -> float:
    """The rank correlation (Spearman) of absolute importances (H, W); 0 where all of one are equal."""
    first, second = (_ranks(each.flatten().abs()) for each in (before, after))
    first, second = first - first.mean(), second - second.mean()
    scale = (first.norm() * second.norm()).item()
    return (first @ second).item() / scale if scale else 0.0


def _ranks(values: Tensor) -> Tensor:
    """Ranks (n,), float64; equal values have the mean of theirs."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts.double() - 1) / 2)[inverse]

"""Adaptive batch normalization (Li et al. 2016): a method of adaptation that trains nothing, for the tests.

The running statistics of every batch norm of the source model are replaced by those of the target images. `weight`
mixes both, as statistics = (1 - weight) source + weight target.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import nn

from mlcli.errors import UsageError
from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import AdaptationContext, AdaptationResult, frozen, inference_batch
from mlcli.methods.adaptation.registry import Adaptation
from mlcli.options import option


@dataclass(frozen=True)
class AdaptiveBatchNorm(Adaptation):
    weight: float = option(1.0, "Weight of the target in the statistics.", minimum=0, maximum=1)


def adapt(context: AdaptationContext[AdaptiveBatchNorm]) -> AdaptationResult:
    """Stages: source."""
    f = supervised_stage.train(context, "source", context.source)
    model = replace(f, network=copy.deepcopy(f.network))
    norms = [module for module in model.network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise UsageError(f"--model {context.config.model}: has no batch norm, whose statistics could be estimated")
    before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    with torch.no_grad():
        for images in context.target.images.split(inference_batch(context.target.images)):
            model(images.to(context.runtime.device))
    for norm, (mean, variance) in zip(norms, before, strict=True):
        norm.running_mean.lerp_(mean, 1 - context.config.weight)
        norm.running_var.lerp_(variance, 1 - context.config.weight)
    return AdaptationResult(f, frozen(model), [context.stage("source")], facts={"batch_norms": len(norms)})

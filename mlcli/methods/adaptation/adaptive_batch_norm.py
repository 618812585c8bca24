"""Adaptive batch normalization, AdaBN (Li, Wang, Shi, Liu and Hou 2016): a method that trains nothing.

Each batch norm of the source model normalizes a channel by a mean and a variance. In place of those of source images it
is given those of all target images, mu_j and sigma_j^2, so that
    y_j = gamma_j (x_j - mu_j) / sigma_j + beta_j                                              (algorithm 1)
has the same first two moments in both domains. The weights, gamma and beta stay those of the source.

Deviations: the images pass the network in batches, each of which is normalized by its own statistics, and the
statistics of the batches are averaged. `target_statistics` mixes both domains, for a target of few images:
(1 - w) source + w target; the paper has w = 1.
"""

import copy
import math
from dataclasses import replace

import torch

from mlcli.methods.adaptation import supervised_stage
from mlcli.methods.adaptation.context import AdaptationContext, AdaptationResult, frozen, inference_batch
from mlcli.methods.adaptation.encoder import batch_norms
from mlcli.methods.adaptation.registry import AdaptiveBatchNorm
from mlcli.models.model import Model


def adapt(context: AdaptationContext[AdaptiveBatchNorm]) -> AdaptationResult:
    """Stages: source, unless a source model is given."""
    f = supervised_stage.source_model(context)
    return AdaptationResult(f, with_target_statistics(context, f), context.stages())


@torch.no_grad()
def with_target_statistics(context: AdaptationContext[AdaptiveBatchNorm], f: Model) -> Model:
    """The model with the statistics of the target in its batch norms."""
    model = replace(f, network=copy.deepcopy(f.network)).to(context.runtime)
    norms = batch_norms(model.network)
    images = context.target.images
    batches = images.tensor_split(math.ceil(len(images) / inference_batch(images)))  # none of them of a single image
    for norm in norms:
        norm.train()
    for number, batch in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (number + 1)  # the plain average over the batches
        with context.runtime.autocast():
            model(batch.to(context.runtime.device))
    for norm, own in zip(norms, batch_norms(f.network), strict=True):
        norm.momentum = own.momentum
        for mixed, before in zip(norm.buffers(), own.buffers(), strict=True):
            if mixed.is_floating_point():  # all but the number of batches
                mixed.lerp_(before, 1 - context.config.target_statistics)
    return frozen(model)

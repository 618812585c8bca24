"""Adaptive batch norm: the statistics by hand, the source model as it was, a run that gains."""

from dataclasses import replace

import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.adaptation import adaptive_batch_norm
from mlcli.methods.adaptation.context import frozen, probabilities
from mlcli.methods.adaptation.registry import AdaptiveBatchNorm
from tests import shapes

SMALL = AdaptiveBatchNorm(model="digits", source_steps=60)


@pytest.mark.parametrize("weight, chunk", [(1.0, 500), (1.0, 40), (0.25, 500)])
def test_the_statistics_are_those_of_the_target(weight, chunk, tmp_path, monkeypatch):
    """Of the first batch norm, against its input: 90 images in one batch, or in batches of 30."""
    monkeypatch.setattr(adaptive_batch_norm, "inference_batch", lambda images: chunk)
    context = shapes.context(tmp_path, replace(SMALL, target_statistics=weight))
    f = frozen(context.new_model())
    convolution, own = f.network.stages[0], f.network.stages[1]
    own.running_mean += 0.3
    own.running_var *= 2
    before = {name: tensor.clone() for name, tensor in f.network.state_dict().items()}
    adapted = adaptive_batch_norm.with_target_statistics(context, f)

    with torch.no_grad():
        values = convolution(f.normalized(context.target.images))
    batches = values.tensor_split(1 if chunk == 500 else 3)
    mean = torch.stack([each.mean((0, 2, 3)) for each in batches]).mean(0)
    variance = torch.stack([each.var((0, 2, 3)) for each in batches]).mean(0)
    found = adapted.network.stages[1]
    assert torch.allclose(found.running_mean, weight * mean + (1 - weight) * own.running_mean, atol=1e-5)
    assert torch.allclose(found.running_var, weight * variance + (1 - weight) * own.running_var, rtol=1e-4)
    assert found.momentum == own.momentum and not found.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in f.network.state_dict().items())
    changed = {name for name, t in adapted.network.state_dict().items() if not torch.equal(t, before[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}


def test_it_gains_on_a_paler_domain(tmp_path):
    context = shapes.context(tmp_path, SMALL)
    adapted = adaptive_batch_norm.adapt(context)
    test = shapes.domain(150, 7, target=True)
    right = [
        (probabilities(model, test.images, context.runtime).argmax(1) == test.labels).float().mean().item()
        for model in (adapted.source_only, adapted.model)
    ]
    assert right[1] > right[0] + 0.1, right
    assert adapted.candidates is None and [run.folder.name for run in adapted.stages] == ["source"]


def test_a_network_without_batch_norm_is_refused(tmp_path):
    context = shapes.context(tmp_path, replace(SMALL, model="lenet"))
    with pytest.raises(UsageError, match="--model lenet: has no batch norm, .* take lenet-bn, digits or cifarnet"):
        context.require_networks()
    shapes.context(tmp_path, SMALL).require_networks()

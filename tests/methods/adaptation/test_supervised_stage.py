"""Training on a labeled domain: what is pretrained learns at a tenth of the learning rate, its statistics stay."""

import pytest
import torch

from mlcli.methods.adaptation import registry as methods
from mlcli.methods.adaptation.supervised_stage import SupervisedStage
from mlcli.models import registry
from mlcli.training import run_folder
from tests import shapes


@pytest.mark.parametrize("begins_from_weights", [True, False])
def test_what_is_pretrained_learns_more_slowly(begins_from_weights, tmp_path):
    """The first step of Adam changes every weight by the learning rate."""
    torch.manual_seed(0)
    known = registry.create("cifarnet", ("a", "b"), 16, channels=1)
    run_folder.save_tensors(tmp_path / "known/model.safetensors", known.network.state_dict(), known.describe())
    name = str(tmp_path / "known") if begins_from_weights else "cifarnet"
    config = methods.Adda(model=name, pretrained=begins_from_weights, source_lr=1e-3)
    context = shapes.context(tmp_path, config, shapes.domain(12))
    method = SupervisedStage(context, context.new_model(), context.source)
    before = {key: tensor.clone() for key, tensor in method.network.state_dict().items()}
    method.step(method.load(torch.arange(12), 0), 0)
    step = {key: (t - before[key]).abs().max().item() for key, t in method.network.state_dict().items()}
    factor = 0.1 if begins_from_weights else 1
    assert step["conv3.0.conv.weight"] == pytest.approx(factor * step["classifier.weight"], rel=1e-2)
    assert (step["conv1.norm.running_mean"] == 0) == begins_from_weights

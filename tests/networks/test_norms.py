"""Norms: instance norm against its formula, image by image, in every batch and format."""

import pytest
import torch

from mlcli.networks.norms import NORMS, SHIFTING


@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("kind", ["instance", "instance-affine"])
@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_is_of_each_image_alone(count, kind, training):
    torch.manual_seed(0)
    x = torch.randn(count, 5, 6, 4).to(memory_format=torch.channels_last).requires_grad_()
    norm = NORMS[kind](5).train(training)
    exact = x.double()
    expected = (exact - exact.mean((2, 3), keepdim=True)) / (
        exact.var((2, 3), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    if kind in SHIFTING:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 2, 5))
            norm.bias.copy_(torch.linspace(-1, 1, 5))
        expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    made = norm(x)
    assert torch.allclose(made.double(), expected, atol=1e-5)
    weights = torch.randn_like(made)
    (ours,) = torch.autograd.grad((made * weights).sum(), x)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), x)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_of_one_image_batch_norm_in_training_is_affine_instance_norm():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 5, 5)
    assert torch.allclose(NORMS["batch"](3)(x), NORMS["instance-affine"](3).eval()(x), atol=1e-6)


def test_no_norm_changes_nothing():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(NORMS["none"](3)(x), x)

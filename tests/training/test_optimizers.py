"""Muon on convolution weights against the same arithmetic in float64; Adam in the order of memory against Adam."""

import copy

import pytest
import torch
from torch import nn

from mlcli.training import optimizers
from mlcli.training.optimizers import ConvolutionMuon, FusedAdam, as_matrix


def newton_schulz(gradient: torch.Tensor, steps: int = 3) -> torch.Tensor:
    """The quintic iteration towards the nearest orthogonal matrix, in float64."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.double() / gradient.double().norm()
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def convolution() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 5, bias=False).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("native, tolerance", [(True, 0.02), (False, 1e-5)])  # bfloat16 has eight bits
def test_two_steps_by_hand(monkeypatch, native, tolerance):
    monkeypatch.setattr(optimizers, "native_bf16", lambda device: native)
    layer = convolution()
    weight = as_matrix(layer.weight.detach().clone(memory_format=torch.preserve_format)).double()
    optimizer = ConvolutionMuon([layer.weight], lr=0.1, momentum=0.6)
    momentum = torch.zeros_like(weight)
    for seed in range(2):
        gradient = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
        layer.weight.grad = gradient.clone()
        optimizer.step()
        g = as_matrix(gradient.contiguous(memory_format=torch.channels_last)).double()
        momentum = 0.6 * momentum + g
        weight = weight * 2 / weight.norm() - 0.1 * newton_schulz(g + 0.6 * momentum)
    assert torch.allclose(as_matrix(layer.weight.detach()).double(), weight, atol=0.1 * tolerance)


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (64, 2, 3, 3)])  # wide, tall
def test_in_bf16_muon_is_that_of_torch(monkeypatch, shape):
    monkeypatch.setattr(optimizers, "native_bf16", lambda device: True)
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape).contiguous(memory_format=torch.channels_last))
    matrix = nn.Parameter(as_matrix(weight.detach()).clone())
    ours = ConvolutionMuon([weight], lr=0.1, momentum=0.6)
    theirs = torch.optim.Muon([matrix], lr=0.1, momentum=0.6, weight_decay=0.0, nesterov=True, ns_steps=3)
    for _ in range(3):
        weight.grad = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        matrix.grad = as_matrix(weight.grad).clone()
        with torch.no_grad():
            matrix.mul_(len(matrix) ** 0.5 / matrix.norm())
        ours.step()
        theirs.step()
    assert torch.equal(as_matrix(weight.detach()), matrix)


def test_steps_reach_the_weight_after_loading_a_state():
    layer = convolution()
    optimizer = ConvolutionMuon([layer.weight], lr=0.1)
    layer.load_state_dict({"weight": torch.ones(4, 3, 5, 5)})
    layer.weight.grad = torch.randn(4, 3, 5, 5)
    optimizer.step()
    assert layer.weight.std() > 0.01
    optimizer.zero_grad()
    assert layer.weight.grad is None


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_adam_in_the_order_of_memory_is_adam(memory_format):
    torch.manual_seed(0)
    ours = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 4), nn.Conv2d(4, 2, 1)
    )
    ours = ours.to(memory_format=memory_format)
    theirs = copy.deepcopy(ours).to(memory_format=torch.contiguous_format)
    adam = FusedAdam(ours.parameters(), 1e-2, (0.5, 0.9))
    plain = torch.optim.Adam(theirs.parameters(), 1e-2, (0.5, 0.9))
    for step in range(4):
        if step == 2:  # resumed from its state
            state = copy.deepcopy(adam.state_dict())
            adam = FusedAdam(ours.parameters(), 1e-2, (0.5, 0.9))
            adam.load_state_dict(state)
        x = torch.randn(2, 3, 8, 8)
        for network, optimizer in ((ours, adam), (theirs, plain)):
            network(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            assert all(p.grad is None for p in network.parameters())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-4)

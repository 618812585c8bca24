"""Muon on convolution weights against the same arithmetic in float64; Adam in the order of memory against Adam; torch's
own optimizers without its compiler."""

import copy
import subprocess
import sys

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


OWN = [("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}), ("Adam", {"lr": 0.1}), ("AdamW", {"lr": 0.1})]
OWN += [("LBFGS", {"lr": 0.5, "max_iter": 4})]


@pytest.mark.parametrize("name, options", OWN, ids=[name for name, _ in OWN])
def test_the_steps_are_those_of_torch_and_so_is_what_is_stored(name, options):
    ended = []
    for source in (optimizers, torch.optim):
        torch.manual_seed(0)
        layer, images = nn.Linear(4, 3), torch.rand(8, 4)
        made = getattr(source, name)(layer.parameters(), **options)

        def loss(layer=layer, images=images, made=made):
            made.zero_grad()
            value = layer(images).square().mean()
            value.backward()
            return value

        for _ in range(2):
            made.step(loss)
        stored = made.state_dict()
        again = getattr(source, name)(layer.parameters(), **options)
        again.load_state_dict(stored)
        again.step(loss)
        ended.append((layer.weight.detach(), stored))
        assert not layer.weight.grad.requires_grad
    assert torch.equal(ended[0][0], ended[1][0])
    assert str(ended[0][1]) == str(ended[1][1])


def test_torchs_compiler_is_not_imported_to_train():
    """A network is made and looked into, seeded, trained by each of the optimizers; all in a process of its own."""
    program = """if True:
        import sys
        import torch
        from mlcli.models import registry
        from mlcli.models.structure import features
        from mlcli.runtime.random_streams import seed_global
        from mlcli.training import optimizers

        seed_global(0, "training/step", 1)
        model = registry.create("cifarnet", ("a", "b"), 32)
        assert len(features.layers(model)) > 10
        layer = torch.nn.Linear(2, 2)
        kernel = torch.nn.Conv2d(2, 2, 3)
        made = [getattr(optimizers, name)(layer.parameters(), lr=0.1) for name in ("SGD", "Adam", "AdamW", "LBFGS")]
        made += [optimizers.FusedAdam(layer.parameters(), 0.1, (0.9, 0.99))]
        made += [optimizers.ConvolutionMuon([kernel.weight], 0.1)]

        def loss():
            value = layer(torch.ones(1, 2)).square().sum() + kernel(torch.ones(1, 2, 3, 3)).square().sum()
            value.backward()
            return value

        for one in made:
            one.zero_grad()
            loss()
            one.step(loss) if isinstance(one, optimizers.LBFGS) else one.step()
            one.load_state_dict(one.state_dict())
        print("torch._dynamo" in sys.modules)
    """
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n", told.stderr

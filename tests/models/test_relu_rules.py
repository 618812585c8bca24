"""The gradients that pass rectifiers by the rules, whatever form the rectifier has; nothing is left behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlcli.models import registry
from mlcli.models.relu_rules import RULES, ReluRule
from mlcli.models.structure.features import Activations

X = torch.tensor([-7.0, -0.5, 0.5, 7.0])
GRADIENT = torch.tensor([1.0, 2.0, 3.0, -4.0])
RECTIFIERS = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "Tensor.relu": torch.Tensor.relu,
    "Tensor.relu_": torch.Tensor.relu_,
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "nn.ReLU6": nn.ReLU6(),
    "F.relu6": F.relu6,
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "torch.prelu": lambda x: torch.prelu(x, torch.tensor([0.3])),
    "nn.PReLU": nn.PReLU(),
    "nn.ELU": nn.ELU(),
    "nn.SELU": nn.SELU(inplace=True),
    "nn.SiLU": nn.SiLU(),
    "nn.GELU": nn.GELU(),
    "F.gelu by name": lambda x: F.gelu(input=x, approximate="tanh"),
    "nn.Mish": nn.Mish(),
    "nn.Hardswish": nn.Hardswish(inplace=True),
    "nn.Hardtanh": nn.Hardtanh(0, 6),
}
GATES = {"sigmoid": torch.sigmoid, "hardsigmoid": F.hardsigmoid, "hardtanh": nn.Hardtanh(), "softplus": F.softplus}


def passed(function, rule=None, x=X):
    """(value, gradient of x) by a rule; by the chain rule for None."""
    leaf = x.clone().requires_grad_()
    inner = leaf.clone()  # a leaf cannot be overwritten
    if rule is None:
        value = function(inner)
    else:
        with ReluRule(rule):
            value = function(inner)
    return value.detach(), torch.autograd.grad(value, leaf, GRADIENT)[0]


@pytest.mark.parametrize("rectifier", RECTIFIERS.values(), ids=RECTIFIERS)
def test_every_form_of_a_rectifier(rectifier):
    value, plain = passed(rectifier)
    deconv, guided = passed(rectifier, "deconv"), passed(rectifier, "guided")
    assert deconv[0].equal(value) and guided[0].equal(value)
    assert deconv[1].equal(GRADIENT.clamp_min(0))
    assert guided[1].allclose(torch.where((X > 0) & (GRADIENT > 0), plain, 0))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_gates_keep_the_chain_rule(gate, rule):
    assert passed(gate, rule)[1].equal(passed(gate)[1])


def test_a_limit_stops_the_gradient_of_a_guided_relu6():
    gradient = torch.ones(4)
    leaf = X.clone().requires_grad_()
    with ReluRule("guided"):
        value = F.relu6(leaf)
    assert torch.autograd.grad(value, leaf, gradient)[0].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("rule", RULES)
def test_what_is_overwritten_is_overwritten(rule):
    """A shortcut that reads its input after a ReLU in place."""

    def block(x):
        F.relu(x, inplace=True)
        return 2 * x

    value, gradient = passed(block, rule)
    assert value.equal(2 * X.clamp_min(0))
    assert gradient.equal(torch.tensor([2.0, 4, 6, 0]) if rule == "deconv" else torch.tensor([0.0, 0, 6, 0]))


def test_nothing_is_left_behind():
    relu = nn.Sequential(nn.ReLU())
    before = passed(relu)
    with pytest.raises(ZeroDivisionError), ReluRule("deconv"):
        relu(X.clone().requires_grad_())
        raise ZeroDivisionError
    assert passed(relu)[1].equal(before[1])
    assert not relu[0]._forward_hooks and not relu[0]._backward_hooks


def test_without_gradients_values_alone_are_computed():
    with ReluRule("guided"), torch.inference_mode():
        assert F.relu(X).equal(X.clamp_min(0))


def test_a_gradient_is_computed_in_the_context_too():
    leaf = X.clone().requires_grad_()
    with ReluRule("guided"):
        (gradient,) = torch.autograd.grad(F.silu(leaf), leaf, GRADIENT)
    assert gradient.equal(passed(nn.SiLU(), "guided")[1])


def test_it_reaches_the_traced_layers_of_a_model():
    model = registry.load("cifarnet")
    activations = Activations(model, ["conv3"])
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradient(rule):
        with ReluRule(rule):
            value = activations(images)["conv3"][0, 5, 4, 4]
        return torch.autograd.grad(value, images)[0]

    (plain,) = torch.autograd.grad(activations(images)["conv3"][0, 5, 4, 4], images)
    found = [plain, *map(gradient, RULES)]
    assert all(each.abs().sum() > 0 for each in found[1:])
    assert not found[0].allclose(found[1]) and not found[1].allclose(found[2]) and not found[0].allclose(found[2])


@pytest.mark.parametrize("rule", RULES)
def test_a_network_that_calls_functions_is_traced_in_the_context(rule):
    """Tracing calls them with what is no tensor, and of which nothing may be asked."""
    model = registry.create("lenet", ["a", "b"], 28)
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with ReluRule(rule):
        total = Activations(model, ["hidden"])(images)["hidden"].sum()
    assert torch.autograd.grad(total, images)[0].abs().sum() > 0


def test_an_unknown_rule():
    with pytest.raises(ValueError, match="deconv, guided"):
        ReluRule("relu")

"""What stays our own beside captum's: the rules by which gradients pass ReLUs in deconvnets and guided backpropagation.

captum replaces the gradients of `nn.ReLU` modules alone, and not those of a ReLU6 or in place; so it is given networks
whose ReLUs are such modules.
"""

import copy
import warnings

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop
from torch import nn

from mlcli.models import registry
from mlcli.models.relu_rules import ReluRule

ORACLES = {"deconv": Deconvolution, "guided": GuidedBackprop}


def relu6_hooked(oracle):
    """The oracle for networks whose ReLUs are ReLU6."""

    class Hooked(oracle):
        def _register_hooks(self, module):
            super()._register_hooks(module)
            if isinstance(module, nn.ReLU6):
                self.backward_hooks.append(module.register_full_backward_hook(self._backward_hook))

    return Hooked


def network(name):
    if name == "resnet18":
        torch.manual_seed(0)
        model = registry.create("resnet18", [str(n) for n in range(5)], 64)
    else:
        model = registry.load(name)
    return model.network.eval()


@pytest.mark.parametrize("rule", ORACLES)
@pytest.mark.parametrize("name, side", [("cifarnet", 32), ("resnet18", 64), ("efficientnet_lite0", 64)])
def test_relu_rules(name, side, rule):
    own = network(name)
    theirs = copy.deepcopy(own)
    for module in theirs.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    oracle = relu6_hooked(ORACLES[rule]) if name == "efficientnet_lite0" else ORACLES[rule]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle(theirs).attribute(images.clone(), target=3)
    leaf = images.clone().requires_grad_()
    with ReluRule(rule):
        values = own(leaf)
    (found,) = torch.autograd.grad(values[:, 3].sum(), leaf)
    assert values.equal(own(images))
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    (plain,) = torch.autograd.grad(own(leaf)[:, 3].sum(), leaf)
    assert (found - plain).abs().max() > 0.01 * expected.abs().max()

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import fx, nn

from mlcli.models.structure.folding import fold_norms, let_activations_overwrite


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second, self.both = nn.Conv2d(4, 4, 3, groups=4, bias=False), BatchNormAct2d(4, act_layer=nn.ReLU6)
        self.third, self.last = nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)

    def forward(self, x):
        x = self.both(self.second(self.norm(self.first(x)).relu()))
        third = self.third(x)
        return self.last(third), third  # asked for itself


class Tracer(fx.Tracer):
    def is_leaf_module(self, m, module_qualified_name):
        return isinstance(m, BatchNormAct2d) or super().is_leaf_module(m, module_qualified_name)


def traced(network):
    return fx.GraphModule(network, Tracer().trace(network))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Network().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.uniform_(0.5, 2)
    return network


def test_values_stay_and_norms_go(network):
    folded = traced(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randn(2, 3, 9, 9)
    expected = network(images)
    fold_norms(folded)
    for found, value in zip(folded(images), expected, strict=True):
        torch.testing.assert_close(found, value)
    run = [folded.get_submodule(node.target) for node in folded.graph.nodes if node.op == "call_module"]
    assert [type(module).__name__ for module in run] == [
        "Conv2d", "Identity", "Conv2d", "ReLU6", "Conv2d", "BatchNorm2d"
    ]  # fmt: skip
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_norm_that_learns_stays(network):
    folded = traced(network.train())
    fold_norms(folded)
    assert not any("folded" in str(node.target) for node in folded.graph.nodes)


class Activated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.norm = nn.BatchNorm2d(3)
        self.a, self.b, self.c, self.d = nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Dropout()

    def forward(self, x):
        asked = self.second(self.a(self.first(x)))
        sum = self.b(asked) + self.d(x)
        return self.c(self.norm(self.third(sum))), asked, sum


def test_activations_overwrite_what_nothing_else_takes():
    torch.manual_seed(0)
    network, images = Activated().eval(), torch.randn(2, 3, 9, 9)
    before = images.clone()
    with torch.inference_mode():
        expected = network(images)
        quick = traced(network)
        fold_norms(quick)
        let_activations_overwrite(quick)
        for _ in range(2):
            for found, value in zip(quick(images), expected, strict=True):
                torch.testing.assert_close(found, value)
    assert torch.equal(images, before)
    kinds = {
        type(module).__name__: module.inplace
        for node in quick.graph.nodes
        if node.op == "call_module" and hasattr(module := quick.get_submodule(str(node.target)), "inplace")
    }
    # The second convolution's own values are asked for, and the images are not a convolution's output
    assert kinds == {"ReLU": True, "ReLU6": False, "SiLU": True, "Dropout": False}
    assert not network.a.inplace and not network.c.inplace

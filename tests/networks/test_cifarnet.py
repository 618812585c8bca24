import pytest
import torch
from torch import nn

from mlcli.networks.cifarnet import CifarNet, unit


@pytest.mark.parametrize("side", [16, 17, 32, 96])
def test_takes_any_size_from_16_pixels(side):
    network = CifarNet(7).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, side, side + 5)).shape == (2, 7)


def test_stages_are_what_the_docstring_says():
    network = CifarNet().eval()
    shapes = {}
    for name in (*network.stages, "features"):
        module = network.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: out.shape}))
    with torch.inference_mode():
        network(torch.rand(1, 3, 32, 32))
    for name, shape in shapes.items():
        assert str(tuple(shape[1:])).replace(",)", ")") in CifarNet.__doc__.split("Stages")[1].split(name)[1][:25], name
    assert list(shapes) == ["conv1", "conv2", "conv3", "conv4", "conv5", "features"]


def test_the_first_kernel_is_large_and_steps_by_one():
    kernel = CifarNet(channels=1).conv1.conv
    assert kernel.kernel_size == (7, 7) and kernel.stride == (1, 1) and kernel.in_channels == 1
    assert 32 <= kernel.out_channels <= 64


def test_every_stage_ends_in_a_relu_and_a_image_reaches_it():
    torch.manual_seed(0)
    network, heard = CifarNet(), []
    for name in network.stages:
        last = [m for m in network.get_submodule(name).modules() if not list(m.children())][-1]
        assert isinstance(last, nn.ReLU)
        last.register_forward_hook(lambda _, __, out: heard.append(out))
    network(torch.rand(4, 3, 32, 32))
    assert all(0.05 < (maps > 0).float().mean() < 0.95 for maps in heard) and len(heard) == 5


def test_pooling_before_the_norm_selects_what_pooling_after_the_relu_would():
    torch.manual_seed(0)
    block = unit(3, 8, pool="after").eval()
    nn.init.uniform_(block.norm.weight, 0.5, 2)
    nn.init.normal_(block.norm.bias)
    image = torch.randn(2, 3, 10, 10)
    late = nn.functional.max_pool2d(block.relu(block.norm(block.conv(image))), 2)
    torch.testing.assert_close(block(image), late)

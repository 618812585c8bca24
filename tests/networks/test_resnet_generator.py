"""The residual generator: its size, its blocks, its shapes."""

import pytest
import torch

from mlcli.networks.resnet_generator import ResidualBlock, ResNetGenerator


@pytest.mark.parametrize("blocks, million", [(9, 11.4), (6, 7.8)])
def test_the_published_networks(blocks, million):
    with torch.device("meta"):
        network = ResNetGenerator(blocks=blocks)
        made = network(torch.empty(1, 3, 256, 256))
    # 7 x 7 and 3 x 3 kernels with biases, instance norms without weights
    expected = 49 * 3 * 64 + 64 + 9 * (64 * 128 + 128 * 256) + 128 + 256 + blocks * 2 * (9 * 256 * 256 + 256)
    expected += 9 * (256 * 128 + 128 * 64) + 128 + 64 + 49 * 64 * 3 + 3
    count = sum(p.numel() for p in network.parameters())
    assert count == expected and round(count / 1e6, 1) == million
    assert made.shape == (1, 3, 256, 256)


def test_a_block_adds_to_what_comes_in():
    torch.manual_seed(0)
    block = ResidualBlock(4, "instance", 0.0)
    x = torch.randn(1, 4, 8, 8)
    assert torch.allclose(block(x) - x, block.body(x), atol=1e-6)
    block.body[-2].weight.data.zero_()
    assert torch.allclose(block(x), x, atol=1e-5)


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
@pytest.mark.parametrize("downs", [2, 3])
def test_rectangles_and_other_channels(upsampling, downs):
    network = ResNetGenerator(2, 1, blocks=1, filters=4, upsampling=upsampling, downs=downs)
    made = network(torch.randn(2, 2, 32, 64))
    assert made.shape == (2, 1, 32, 64) and made.abs().max() <= 1


def test_the_border_is_reflected_not_dark():
    """An image of one color stays one color up to its border, which zeros around it would disturb."""
    torch.manual_seed(0)
    network = ResNetGenerator(1, 1, blocks=2, filters=4, norm="none", upsampling="resize", downs=0)
    made = network(torch.full((1, 1, 12, 12), 0.3))
    assert made.std() < 1e-6

"""Networks of adaptation: shapes and sizes as published, batch norms that stay, logits that are not bounded."""

import pytest
import torch
from torch import nn

from mlcli.networks.lenet import DigitsNet, LeNet, NormalizedLeNet
from mlcli.networks.refiner import Refiner
from mlcli.networks.translated import Translated
from mlcli.networks.unet import Segmenter


def test_lenet_has_the_published_number_of_weights():
    assert sum(p.numel() for p in LeNet().parameters()) == 20 * 26 + 50 * 501 + 500 * 801 + 10 * 501
    assert LeNet(3, channels=3, size=16)(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    with pytest.raises(ValueError, match="16 are needed"):
        LeNet(size=15)


def test_to_the_one_with_norms_brightness_and_contrast_are_nothing():
    torch.manual_seed(0)
    network, images = NormalizedLeNet(channels=3, size=16).eval(), torch.rand(2, 3, 16, 16)
    paler = 0.3 + 0.5 * images
    assert torch.allclose(network(images), network(paler), atol=1e-3)
    plain = (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), correction=0, keepdim=True)
    assert torch.allclose(network(images), LeNet.forward(network, plain), atol=1e-3), "new batch norms do nothing"
    network.train()(images)
    assert (network.norm1.running_mean != 0).all() and (network.norm_hidden.running_mean != 0).any()


@pytest.mark.parametrize("size", [28, 32])
def test_the_deeper_network_takes_other_sizes(size):
    assert DigitsNet().eval()(torch.zeros(2, 1, size, size)).shape == (2, 10)


def test_a_refiner_with_silent_blocks_is_its_first_and_last_convolution():
    refiner = Refiner(filters=2, blocks=1)
    nn.init.zeros_(refiner.blocks[0][2].weight)
    nn.init.zeros_(refiner.blocks[0][2].bias)
    x = torch.rand(1, 1, 5, 7)
    assert torch.allclose(refiner(x), refiner.last(refiner.first(x)))


def test_a_segmenters_logits_go_beyond_one():
    segmenter = Segmenter(3, depth=3, filters=4).eval()
    nn.init.constant_(segmenter.ups[-1][1].bias, 5.0)
    assert segmenter(torch.zeros(1, 1, 8, 8)).mean() > 4


def test_only_the_generator_of_a_translated_network_trains():
    inner = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())
    whole = Translated(nn.Conv2d(1, 1, 1), inner, (0.5,), (0.25,)).train()
    assert whole.generator.training and not inner.training
    nn.init.ones_(whole.generator.weight)
    nn.init.zeros_(whole.generator.bias)
    assert whole(torch.zeros(1, 1, 2, 2)).abs().max() < 1e-6 and (whole(torch.ones(1, 1, 2, 2)) - 2).abs().max() < 1e-4

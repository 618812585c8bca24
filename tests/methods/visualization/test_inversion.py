import math
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.methods.visualization.configs import Inversion
from mlcli.methods.visualization.inversion import alpha_norm, invert, psnr, total_variation
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure.features import Activations
from mlcli.runtime.device import Runtime

RUNTIME = Runtime.choose("cpu", "fp32")
QUICK = Inversion(steps=48, lr=0.2)


@pytest.fixture(scope="module")
def model():
    return registry.load("cifarnet").to(RUNTIME)


@pytest.fixture(scope="module")
def image():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    disk = ((x - 14) ** 2 + (y - 18) ** 2 < 60).float()
    return torch.stack([80 * disk + 90, 90 + 2 * x, 70 + 3 * y]).byte()


def test_the_values_of_the_layer_are_those_of_the_image(model, image):
    steps = []
    found = invert(model, "conv1", image, QUICK, RUNTIME, on_step=lambda done, value: steps.append((done, value)))
    activations = Activations(model, ["conv1"])
    with torch.no_grad():
        values, wanted = (activations(x[None])["conv1"] for x in (found.image, image))
    assert found.error == pytest.approx(((values - wanted).square().sum() / wanted.square().sum()).item(), rel=1e-3)
    assert found.error < 0.05 and found.psnr == psnr(found.image, image) > 17
    assert [done for done, _ in steps] == list(range(1, 49)) and steps[-1][1] < 0.2 * steps[0][1]


def test_less_is_left_at_a_deeper_layer(model, image):
    found = [invert(model, layer, image, QUICK, RUNTIME).psnr for layer in ("conv1", "conv3", "conv5")]
    assert found[0] > found[1] + 1 and found[1] > found[2] + 1


def test_it_can_be_repeated(model, image):
    quick = replace(QUICK, steps=3)
    first, again, other = (
        invert(model, "conv2", image, config, RUNTIME) for config in (quick, quick, replace(quick, seed=1))
    )
    assert first.image.equal(again.image) and not first.image.equal(other.image)


def test_a_silent_unit_that_should_not_be_is_woken():
    """No gradient passes its ReLU, and the image would stay what it began as."""
    convolution = nn.Conv2d(3, 1, 1, bias=True)
    nn.init.ones_(convolution.weight)
    nn.init.constant_(convolution.bias, -2.0)  # more than gray gives
    network = nn.Sequential(OrderedDict(first=convolution, relu=nn.ReLU(), flat=nn.Flatten(), last=nn.Linear(64, 2)))
    preprocessing = Preprocessing(crop=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = Model("tiny", network.eval(), ("a", "b"), preprocessing, "tiny").to(RUNTIME)
    bright = torch.full((3, 8, 8), 240, dtype=torch.uint8)
    assert invert(model, "relu", bright, replace(QUICK, tv_weight=0.0), RUNTIME).error < 0.6  # else 1


def test_the_priors():
    images = torch.zeros(1, 3, 4, 4)
    assert alpha_norm(images, 6).item() == 1 and alpha_norm(images + 0.5, 6).item() == 0
    assert alpha_norm(images + 0.75, 6).item() == pytest.approx(0.5**6)
    ramp = (torch.arange(4.0) / 10).expand(1, 1, 4, 4)
    assert total_variation(ramp, 2).item() == pytest.approx(0.01)
    assert total_variation(ramp, 1).item() == pytest.approx(0.1)
    diagonal = ramp + ramp.transpose(2, 3)
    assert total_variation(diagonal, 1).item() == pytest.approx(0.1 * math.sqrt(2))


def test_psnr():
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    assert psnr(image, image) == math.inf
    assert psnr(image, image + 16) == pytest.approx(20 * math.log10(255 / 16))

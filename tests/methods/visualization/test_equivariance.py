from dataclasses import replace

import pytest
import timm.layers
import torch
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import UsageError
from mlcli.imaging import image_io
from mlcli.methods.visualization.equivariance import Measure, circular, named_layers
from mlcli.methods.visualization.motion import CIRCULAR, SYMMETRIC
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime

CPU = Runtime(torch.device("cpu"), "fp32")


def images(side, count=3, channels=3):
    """Smooth noise, as photographs are."""
    noise = torch.rand(count, channels, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, size=(side, side), mode="bicubic").clamp(0, 1)


def measured(model, transform, amounts, border, names=(), x=None):
    layers = named_layers(model, names)
    measure = Measure(model, layers, transform, amounts, CPU, border)
    x = images(model.preprocessing.crop) if x is None else x
    measure.add(x[:2])
    measure.add(x[2:])
    return {found.name: found for found in measure.findings}


@pytest.fixture(scope="module")
def cifarnet():
    return registry.load("cifarnet")


@pytest.mark.parametrize("border", [SYMMETRIC, CIRCULAR])
def test_the_edge_detector_moves_with_the_image(border):
    sobel = registry.load("sobel")
    found = measured(sobel, "shift", [0, 1, 5, 13], border)
    assert list(found) == ["conv1", "conv2"]
    for layer in found.values():
        assert max(layer.equivariance.mean()) < 1e-5 and layer.exact == [True] * 4
        assert layer.invariance.mean()[0] == 0 and min(layer.invariance.mean()[1:]) > 0.1


def test_the_length_of_the_gradient_turns_and_its_parts_do_not():
    sobel = registry.load("sobel")
    flipped = measured(sobel, "flip", ["none", "left-right", "both"], CIRCULAR)
    assert max(flipped["conv2"].equivariance.mean()) < 1e-5
    assert flipped["conv1"].equivariance.mean()[2] == pytest.approx(2, abs=1e-4)  # both parts change their sign
    rotated = measured(sobel, "rotate", [90], SYMMETRIC)
    assert rotated["conv2"].equivariance.mean()[0] < 1e-5 and rotated["conv2"].exact == [True]
    assert rotated["conv1"].equivariance.mean()[0] > 0.5


@pytest.mark.parametrize("border", [SYMMETRIC, CIRCULAR])
def test_each_stage_is_equivariant_at_multiples_of_its_stride(cifarnet, border):
    found = measured(cifarnet, "shift", [0, 3, 4, 8], border)
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        stride = found[name].layer.stride
        errors = found[name].equivariance.mean()
        assert found[name].exact == [shift % stride == 0 for shift in (0, 3, 4, 8)]
        for shift, error, exact in zip((0, 3, 4, 8), errors, found[name].exact, strict=True):
            assert error < 1e-5 if exact else error > 0.05, (name, shift, error)
    assert found["logits"].equivariance is None
    if border == CIRCULAR:  # the greatest value of a map that only moves is the same
        assert found["logits"].invariance.mean()[3] < 1e-5 < found["logits"].invariance.mean()[1]


def test_the_padding_of_the_network_would_be_seen(cifarnet):
    """What the border costs when nothing is done about it, so that the two ways of dealing with it mean something."""
    x = images(32)
    activations = features.Activations(cifarnet, ["conv5"])
    still, shifted = activations(x)["conv5"], activations(x.roll(8, 3))["conv5"]
    assert (shifted - still.roll(1, 3)).norm() / still.norm() > 0.05


def test_the_symmetric_extension_reaches_as_far_as_the_units_see(cifarnet):
    """Pixels of a second reflection change nothing; those within the field of a unit do."""
    layer = named_layers(cifarnet, ["conv4"])
    measure = Measure(cifarnet, layer, "shift", [8], CPU)
    field = layer["conv4"].receptive_field
    assert measure.margin >= field - 8 * 4 and measure.margin % 8 == 0 and measure.wide_margin >= measure.margin + 8


def test_wide_borders_leave_room_for_fewer_images_at_a_time(cifarnet):
    assert Measure(cifarnet, named_layers(cifarnet, ["conv1"]), "shift", [8], CPU).batch_size == 16
    wide = replace(cifarnet, preprocessing=Preprocessing(crop=448))
    layers = named_layers(wide, ["conv1"])
    assert Measure(wide, layers, "shift", [8], CPU, CIRCULAR).batch_size == 4
    assert Measure(wide, layers, "shift", [448], CPU).batch_size == 1


def test_the_measure_by_hand():
    """One convolution of one pixel to one of its neighbors: f is x shifted, so all can be said without it."""
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].weight[0, 0, 1, 0] = 2  # twice the pixel at the left
    prepared = Preprocessing(crop=16, mean=(0.0,), std=(1.0,), channels=1)
    model = Model("left", network.eval(), (), prepared, "left")
    x = images(16, channels=1)
    found = measured(model, "shift", [2], CIRCULAR, ["0"], x)["0"]
    wanted = [float((a.roll(2, 1) - a).norm() / a.norm()) for a in x[:, 0].double()]
    assert found.invariance.mean()[0] == pytest.approx(sum(wanted) / 3, rel=1e-5)
    sd = torch.tensor(wanted, dtype=torch.float64).std(correction=0)
    assert found.invariance.sd()[0] == pytest.approx(float(sd), rel=1e-3)
    a, b, c = x[:, 0].double()
    unrelated = (float((a - b).norm() / b.norm()) + float((b - c).norm() / c.norm())) / 2
    assert found.unrelated.mean()[0] == pytest.approx(unrelated, rel=1e-5) and found.equivariance.mean()[0] == 0
    flipped = measured(model, "flip", ["left-right"], CIRCULAR, ["0"], x)["0"]
    wanted = [float((a.roll(-1, 1) - a.roll(1, 1)).norm() / a.norm()) for a in x[:, 0].double()]
    assert flipped.equivariance.mean()[0] == pytest.approx(sum(wanted) / 3, rel=1e-5)


def test_images_without_edges_have_nothing_to_compare():
    sobel = registry.load("sobel")
    found = measured(sobel, "shift", [4], CIRCULAR, x=torch.full((3, 3, 128, 128), 0.5))
    assert all(torch.tensor(layer.equivariance.mean()).isnan().all() for layer in found.values())
    mixed = torch.cat([torch.full((1, 3, 128, 128), 0.5), images(128, 2)])
    assert measured(sobel, "shift", [4], CIRCULAR, x=mixed)["conv2"].invariance.count.tolist() == [2]


def test_pooling_with_padding_wraps_around():
    torch.manual_seed(0)
    x = images(16)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 1, 1))
    wrapped = circular(network)
    assert torch.allclose(wrapped(x.roll(8, 2)), wrapped(x).roll(2, 2), atol=1e-6)
    assert not torch.allclose(network(x.roll(8, 2)), network(x).roll(2, 2), atol=1e-3)
    with pytest.raises(UsageError, match="ceil|pools beyond"):
        circular(nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True)))


def test_layers_by_name(cifarnet):
    assert list(named_layers(cifarnet, [])) == ["conv1", "conv2", "conv3", "conv4", "conv5", "logits"]
    assert list(named_layers(registry.load("sobel"), [])) == ["conv1", "conv2"]
    named = named_layers(cifarnet, ["logits", "conv2@signed", "conv3.0.conv"])
    assert [layer.address for layer in named.values()] == ["mul", "conv2.1.relu@signed", "conv3.0.conv"]
    with pytest.raises(UsageError):
        named_layers(registry.load("sobel"), ["logits"])
    signed = measured(cifarnet, "shift", [8], CIRCULAR, ["conv2@signed"])["conv2@signed"]
    assert signed.equivariance.mean()[0] < 1e-5


def test_an_example_is_what_was_measured(cifarnet):
    measure = Measure(cifarnet, named_layers(cifarnet, ["conv1", "logits"]), "shift", [0, 8], CPU, CIRCULAR)
    x = image_io.to_bytes(images(32, 1)[0])
    example = measure.example(x)
    torch.testing.assert_close(example.images[1], image_io.to_unit(x).roll(8, 2))
    assert list(example.maps) == ["conv1"]
    after, before = example.maps["conv1"][1]
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(before, example.maps["conv1"][0][0].roll(8, 1))


@pytest.mark.parametrize(
    "name, transform, text",
    [("cifarnet", "rotate", "only be shifted and flipped"), ("squeezenet1_1", "flip", "evenly")],
)
def test_what_cannot_be_repeated_is_said(name, transform, text):
    model = registry.load(name, untrained=True)
    with pytest.raises(UsageError, match=text):
        Measure(model, named_layers(model, []), transform, [], CPU, CIRCULAR)


def test_padding_that_a_layer_decides_by_itself_wraps_around():
    torch.manual_seed(0)
    network = nn.Sequential(timm.layers.Conv2dSame(3, 4, 5, stride=2), timm.layers.Conv2dSame(4, 4, 3, stride=2))
    model = Model("same", network.eval(), (), Preprocessing(crop=16), "same")
    for border in (CIRCULAR, SYMMETRIC):
        found = measured(model, "shift", [4, 8], border, ["1"], images(16))["1"]
        assert max(found.equivariance.mean()) < 1e-5 and found.exact == [True, True]

import math

import pytest
import torch

from mlcli.methods.visualization import filter_images


def grating(degrees, k=7, frequency=0.15, phase=0.0):
    """(k, k) that varies in the direction of the angle, 0 along a row, under a soft window."""
    y, x = torch.meshgrid(*2 * [torch.arange(k) - (k - 1) / 2], indexing="ij")
    along = x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees))
    return torch.exp(-(x**2 + y**2) / (k * 1.2)) * torch.cos(2 * math.pi * frequency * along + phase)


def blob(red, green, blue):
    return torch.tensor([red, green, blue])[:, None, None] * grating(0, frequency=0)


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 130, 170])
@pytest.mark.parametrize("phase", [0.0, 1.5, 4.0])
def test_orientation(degrees, phase):
    found = math.degrees(filter_images.orientation(grating(degrees, phase=phase)[None]).item())
    assert min(abs(found - degrees), 180 - abs(found - degrees)) < 4


def test_edges_by_angle_then_colors_by_hue():
    edges = [grating(angle, phase=1.0).expand(3, -1, -1) for angle in (100, 10, 150, 60)]
    colors = [blob(-1.0, -1, 2), blob(2, -1.0, -1), blob(-1, 2, -1.0)]  # blue, red, green
    colors[1][:, 0, 0] = torch.tensor([0, 0, 0.01])  # a speck of blue makes red no less red
    order = filter_images.arrange(torch.stack([*colors, *edges]))
    assert order.tolist() == [4, 6, 3, 5, 1, 2, 0]


def test_the_hue_of_a_color_edge_is_that_of_a_side():
    edge = torch.tensor([2.0, -1, -1])[:, None, None] * grating(0, phase=math.pi / 2)  # sums to nothing
    assert filter_images.colorfulness(edge[None]) == 1
    assert min(abs(filter_images.hue(edge[None]).item() - side) for side in (0, math.pi)) < 1e-5


def test_color_is_the_energy_off_the_gray_axis():
    gray, color = grating(30).expand(3, -1, -1), blob(1.0, 0, -1)
    fractions = filter_images.colorfulness(torch.stack([gray, color, torch.zeros(3, 7, 7)]))
    torch.testing.assert_close(fractions, torch.tensor([0.0, 1, 0]))


def test_each_first_kernel_has_its_own_scale_and_zero_is_mid_gray():
    weight = torch.stack([1e-4 * blob(1.0, 0, -1), 9 * grating(0).expand(3, -1, -1), torch.zeros(3, 7, 7)])
    drawn = filter_images.first_layer(weight)
    assert drawn.tiles.shape == (3, 3, 7, 7) and sorted(drawn.numbers) == [0, 1, 2]
    for tile, number in zip(drawn.tiles, drawn.numbers, strict=True):
        expected = 0.5 + 0.5 * weight[number] / max(weight[number].abs().max(), 1e-12)
        torch.testing.assert_close(tile, expected)
    of = dict(zip(drawn.numbers, drawn.tiles, strict=True))
    assert dict(zip(drawn.numbers, drawn.scales, strict=True)) == {n: float(weight[n].abs().max()) for n in range(3)}
    assert of[0].max() == 1 and of[0].min() == 0 and (of[2] == 0.5).all()


def test_gray_input_is_drawn_in_gray():
    drawn = filter_images.first_layer(torch.stack([grating(angle)[None] for angle in (90, 0)]))
    assert drawn.tiles.shape == (2, 3, 7, 7) and drawn.numbers == [1, 0]
    assert torch.equal(drawn.tiles[:, 0], drawn.tiles[:, 2])


def test_one_unit_shows_its_channels_on_one_scale_the_strongest_first():
    torch.manual_seed(0)
    weight = torch.randn(4, 5, 3, 3)
    weight[2] *= torch.tensor([1.0, 3, 0.1, 9, 2])[:, None, None]
    drawn = filter_images.one_unit(weight, 2)
    assert drawn.numbers == [3, 1, 4, 0, 2]
    scale = weight[2].abs().max()
    assert drawn.scales == [float(scale)] * 5
    for tile, number in zip(drawn.tiles, drawn.numbers, strict=True):
        torch.testing.assert_close(tile, (0.5 + 0.5 * weight[2, number] / scale).expand(3, -1, -1))


def test_channels_of_a_group_keep_their_numbers():
    weight = torch.ones(8, 2, 1, 1)  # 8 units in 4 groups of 2, each of which sees 2 of 8 channels
    assert filter_images.one_unit(weight, 0, 4).numbers == [0, 1]
    assert filter_images.one_unit(weight, 3, 4).numbers == [2, 3]
    assert filter_images.one_unit(weight, 7, 4).numbers == [6, 7]


def test_order_is_the_same_every_time():
    torch.manual_seed(0)
    weight = torch.randn(64, 3, 7, 7)
    assert filter_images.first_layer(weight).numbers == filter_images.first_layer(weight.clone()).numbers
    assert filter_images.first_layer(torch.zeros(5, 3, 7, 7)).numbers == [0, 1, 2, 3, 4]


def test_structure_tells_edges_from_noise():
    torch.manual_seed(0)
    edges = torch.stack([grating(angle, phase=1.0).expand(3, -1, -1) for angle in range(0, 180, 10)])
    assert filter_images.structure(edges).min() > 0.5
    noise = filter_images.structure(torch.randn(5000, 3, 7, 7))
    assert noise.quantile(0.99) < 0.3
    ramp = torch.arange(49.0).view(1, 1, 7, 7) - 24
    here, there = ramp[0, 0, :, :-1].flatten(), ramp[0, 0, :, 1:].flatten()
    by_hand = (here @ there / (here.norm() * there.norm())).item()
    assert filter_images.structure(ramp).item() == pytest.approx(by_hand, abs=1e-6)
    assert filter_images.structure(torch.ones(2, 3, 1, 1)).tolist() == [0, 0]

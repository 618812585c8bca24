import math

import pytest
import torch

from mlcli.data.distortions import KNOTS, Distortion


def drawn(**values) -> torch.Tensor:
    """One draw in which all is in the middle but these."""
    names = ["angle", "x_scale", "y_scale", "shear", "x", "y", "contrast", "light"]
    return torch.tensor([[values.get(name, 0.0) for name in names] + [0.0] * 2 * KNOTS**2])


@pytest.fixture
def image():
    return torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def test_nothing_asked_for_changes_nothing(image):
    plain = Distortion()
    assert torch.allclose(plain.apply(image, plain.draw(1, torch.Generator())), image, atol=1e-6)


def test_a_quarter_turn_is_exact(image):
    rotated = Distortion(rotation=90).apply(image, drawn(angle=1))
    assert any(torch.allclose(rotated, torch.rot90(image, k, (2, 3)), atol=1e-5) for k in (1, 3))


def test_a_shift_is_a_fraction_of_the_side(image):
    shifted = Distortion(shift=0.25).apply(image, drawn(x=1))
    assert torch.allclose(shifted[..., :6], image[..., 2:], atol=1e-5)
    assert torch.allclose(shifted[..., 6:], image[..., 7:].expand(-1, -1, -1, 2), atol=1e-5)


def test_scale_and_shear_by_the_coordinates_they_map():
    ramp = torch.linspace(-7 / 8, 7 / 8, 8).expand(1, 1, 8, 8)  # the value is x
    doubled = Distortion(scale=math.log(2)).apply(ramp, drawn(x_scale=-1))
    assert torch.allclose(doubled, ramp / 2, atol=1e-5)
    sheared = Distortion(shear=0.5).apply(ramp, drawn(shear=1))
    expected = (ramp + 0.5 * ramp.transpose(2, 3)).clamp(-7 / 8, 7 / 8)
    assert torch.allclose(sheared, expected, atol=1e-5)


def test_contrast_and_light(image):
    changed = Distortion(contrast=0.2).apply(image, drawn(contrast=-1, light=1))
    assert torch.allclose(changed, ((image - 0.5) * math.exp(-0.2) + 0.6).clamp(0, 1), atol=1e-5)


def test_a_warp_is_smooth_and_of_the_size_asked_for():
    ramp = torch.linspace(-1 + 1 / 64, 1 - 1 / 64, 64).expand(400, 1, 64, 64)
    warp = Distortion(warp=0.02)
    displaced = warp.apply(ramp, warp.draw(400, torch.Generator().manual_seed(0))) - ramp
    middle = displaced[:, 0, 22:42, 22:42]
    assert 0.5 * 0.04 < middle.std() < 0.04  # in coordinates from -1 to 1; between knots it averages
    assert middle.diff(dim=1).abs().max() < 0.02


def test_each_image_is_distorted_by_its_own_draw(image):
    distortion = Distortion(rotation=20, scale=0.2, shear=0.2, shift=0.1, warp=0.05, contrast=0.2)
    random = distortion.draw(3, torch.Generator().manual_seed(1))
    three = distortion.apply(image.expand(3, -1, -1, -1), random)
    alone = [distortion.apply(image, one[None]) for one in random]
    assert torch.allclose(three, torch.cat(alone), atol=1e-5) and not torch.allclose(three[0], three[1], atol=0.1)

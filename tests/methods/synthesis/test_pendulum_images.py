"""Drawn images of a pendulum."""

import math

import pytest
import torch

from mlcli.methods.synthesis.pendulum_images import ANGLES, STYLES, drawn, labeled
from mlcli.runtime.random_streams import rng


def direction(image, bright):
    """The angle of the rod in degrees, 0 upright and positive counterclockwise, by the center of gravity of its ink."""
    size = len(image)
    ink = image.double() / 255 if bright else 1 - image.double() / 255
    ink = (ink - ink.median()).clamp(min=0.25) - 0.25
    edge = (torch.arange(size) + 0.5) / size * 2 - 1
    return math.degrees(math.atan2(-(ink * edge).sum(), -(ink * edge[:, None]).sum())) % 360


@pytest.mark.parametrize("style", STYLES)
def test_the_rod_is_at_the_angle_that_the_label_says(style):
    for number in range(0, len(ANGLES), 7):
        image, label = labeled(number, 0, 64, style)
        apart = (direction(image, bright=style == "a") - label + 180) % 360 - 180
        assert abs(apart) < 2.5 + 3, (number, label)


def test_positive_angles_are_counterclockwise_as_gymnasium_draws_them():
    image = drawn(torch.tensor([math.pi / 2]), rng(0, "test"), 32)[0].double()
    assert image[:, :16].sum() > 1.5 * image[:, 16:].sum(), "the rod lies to the left of the axle"


def test_an_image_depends_on_its_number_its_seed_and_its_style_alone():
    image, label = labeled(75, 3)
    assert image.shape == (32, 32) and image.dtype == torch.uint8 and label == 15
    assert torch.equal(image, labeled(75, 3)[0])
    others = [labeled(75, 4)[0], labeled(147, 3)[0], labeled(75, 3, style="b")[0]]
    assert not any(torch.equal(image, other) for other in others)


def test_both_styles_of_a_number_show_one_angle():
    for number in range(5):
        angles = [direction(labeled(number, 0, 64, style)[0], bright=style == "a") for style in "ab"]
        assert abs((angles[0] - angles[1] + 180) % 360 - 180) < 4


def test_angles_of_a_class_are_spread_over_it():
    found = torch.tensor([direction(labeled(72 * k + 18, 0, 64)[0], bright=True) for k in range(40)])  # of 90 degrees
    assert found.min() < 89 and found.max() > 91 and abs(found.mean() - 90) < 1

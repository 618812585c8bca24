"""The state of a pendulum as it is read from images."""

import math

import pytest
import torch
from torch import nn

from mlcli.errors import UsageError
from mlcli.methods.control.equations import advance, evaluated
from mlcli.methods.control.observer import Observer, from_images
from mlcli.methods.control.pendulum import Pendulum
from mlcli.models import registry
from mlcli.runtime.device import Runtime

RUNTIME = Runtime.choose("cpu", "fp32")
CLASSES = tuple(f"{angle:03d}" for angle in range(0, 360, 10))


class BrightestDirection(nn.Module):
    """Logits of CLASSES: the brightness of the image around each direction from the middle."""

    def __init__(self, size=32):
        super().__init__()
        edge = (torch.arange(size) + 0.5) / size * 2 - 1
        x, y = edge.expand(size, size), -edge[:, None].expand(size, size)
        angles = torch.deg2rad(torch.tensor([float(name) for name in CLASSES]))[:, None, None]
        along, across = y * angles.cos() - x * angles.sin(), x * angles.cos() + y * angles.sin()
        near = torch.exp(-((across / 0.15) ** 2)) * (along > 0.2)
        self.register_buffer("filters", near / near.sum((1, 2), keepdim=True))

    def forward(self, images):
        return 6 * (images.mean(1).flatten(1) @ self.filters.flatten(1).T)


@pytest.fixture
def observer():
    model = registry.create("lenet", CLASSES, 32, 1)
    model.network = BrightestDirection()
    return Observer(model, "a", RUNTIME, seed=0)


def test_angles_are_read_finer_than_the_classes(observer):
    angles = torch.linspace(-3, 3, 50, dtype=torch.float64)
    read = observer.angles(angles)
    assert read.dtype == torch.float64
    apart = (read - angles).abs()
    assert apart.mean() < math.radians(1.5), "the nearest class of 10 degrees would be 2.5 degrees away"
    assert apart.max() < math.radians(4)


def test_each_image_has_noise_of_its_own_and_a_seed_decides_it(observer):
    angles = torch.full((3,), 1.0, dtype=torch.float64)
    first = observer.angles(angles)
    assert len(set(first.tolist())) == 3 and not torch.equal(first, observer.angles(angles))
    again = Observer(observer.model, "a", RUNTIME, seed=0)
    assert torch.equal(first, again.angles(angles))


def test_two_images_give_the_velocity_of_the_equations(observer):
    """With exact angles the state is exact, also after a step at the greatest speed, which is clipped."""
    observer.angles = lambda angles: torch.remainder(angles, 2 * math.pi)  # type: ignore[method-assign]
    seen = []

    def policy(angle, velocity):
        seen.append((angle, velocity))
        return torch.zeros_like(angle)

    pendulum = Pendulum()
    angle, velocity = torch.tensor([0.5, 3.1]).double(), torch.tensor([7.9, -8.0]).double()
    for _ in range(3):
        from_images(policy, observer, pendulum.time_step)(angle, velocity)
        assert torch.allclose(seen[-1][1], velocity, atol=1e-12)
        assert torch.allclose(seen[-1][0].cos(), angle.cos())
        angle, velocity, _ = advance(pendulum, angle, velocity, torch.zeros(2).double())


def test_a_policy_balances_by_images_alone(observer):
    def law(angle, velocity):
        return -(12.0 * angle + 3.0 * velocity)

    pendulum = Pendulum(max_torque=20.0)
    by_images = evaluated(pendulum, from_images(law, observer, pendulum.time_step), "balance", 4)
    assert by_images.fallen == 0
    blind = evaluated(pendulum, lambda angle, velocity: torch.zeros_like(angle), "balance", 4)
    assert blind.fallen == 1


def test_a_model_of_other_classes_is_refused():
    with pytest.raises(UsageError, match="no angles in degrees"):
        Observer(registry.create("lenet", ("cat", "dog"), 32, 1), "a", RUNTIME, seed=0)

"""The adversarial losses against values worked out by hand and by NumPy in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from mlcli.methods.generation.gan_losses import LOSSES, gradient_penalty

REAL = np.array([[2.0, -1.0], [0.5, 0.0]])
FAKE = np.array([[-3.0, 1.5], [0.0, -0.5]])


def log_sigmoid(x):
    return np.log(1 / (1 + np.exp(-x)))


# From the definitions: D(x) = REAL, D(G(z)) = FAKE
EXPECTED = {
    "non-saturating": (
        -log_sigmoid(REAL).mean() - np.log(1 - 1 / (1 + np.exp(-FAKE))).mean(),
        -log_sigmoid(FAKE).mean(),
    ),
    # ((1 + 4 + 0.25 + 1) + (9 + 2.25 + 0 + 0.25)) / 4 and (16 + 0.25 + 1 + 2.25) / 4
    "least-squares": (17.75 / 4, 19.5 / 4),
    # ((0 + 2 + 0.5 + 1) + (0 + 2.5 + 1 + 0.5)) / 4 and 2 / 4
    "hinge": (7.5 / 4, 0.5),
    "wasserstein": (-2 / 4 - 1.5 / 4, 0.5),
}


@pytest.mark.parametrize("name", LOSSES)
def test_each_side_is_as_defined(name):
    discriminator, generator = LOSSES[name]
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)

    assert discriminator(real, fake).item() == pytest.approx(EXPECTED[name][0], rel=1e-12)
    assert generator(fake).item() == pytest.approx(EXPECTED[name][1], rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_the_losses_of_scales_are_summed_and_a_large_map_weighs_no_more_than_a_small_one(name):
    discriminator, generator = LOSSES[name]
    real, fake = torch.tensor(REAL), torch.tensor(FAKE)
    large_real, large_fake = real.repeat(3, 5), fake.repeat(3, 5)

    assert discriminator([large_real, real], [large_fake, fake]).item() == pytest.approx(2 * EXPECTED[name][0])
    assert generator([large_fake, fake]).item() == pytest.approx(2 * EXPECTED[name][1])


@pytest.mark.parametrize("name", LOSSES)
def test_the_generator_makes_what_the_discriminator_calls_real(name):
    """A step against the generator's gradient raises D, one against the discriminator's lowers it."""
    discriminator, generator = LOSSES[name]
    fake = torch.full((5,), 0.5, requires_grad=True)

    assert (torch.autograd.grad(generator(fake), fake)[0] < 0).all()
    assert (torch.autograd.grad(discriminator(torch.zeros(5), fake), fake)[0] > 0).all()


def test_a_sure_discriminator_leaves_the_generator_its_gradient_and_no_infinity():
    fake = torch.tensor([-1000.0], requires_grad=True)

    loss = LOSSES["non-saturating"].generator(fake)

    assert loss.item() == pytest.approx(1000)
    assert torch.autograd.grad(loss, fake)[0].item() == pytest.approx(-1)


def test_half_precision_is_summed_in_float32():
    """In bfloat16 the mean of many 1.0 + 2^-7 would come out coarser than its terms."""
    outputs = torch.linspace(-1, 1, 4097, dtype=torch.float64)
    low = LOSSES["least-squares"].generator(outputs.bfloat16())

    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(LOSSES["least-squares"].generator(outputs.bfloat16().double()).item(), rel=1e-6)


def test_gradient_penalty_of_a_linear_critic():
    """grad of w.x is w everywhere, so that the penalty is (|w| - 1)^2: for w = (3, 4) it is 16."""
    critic = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    critic.weight.data = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    real, fake = torch.randn(2, 6, 2, dtype=torch.float64)

    penalty = gradient_penalty(critic, real, fake, torch.rand(6))
    penalty.backward()

    assert penalty.item() == pytest.approx(16, rel=1e-12)
    # d/dw (|w| - 1)^2 = 2 (|w| - 1) w / |w|
    assert critic.weight.grad[0].tolist() == pytest.approx([2 * 4 * 0.6, 2 * 4 * 0.8], rel=1e-12)


def test_gradient_penalty_looks_between_the_two_images():
    """For D(x) = sum x^2 / 2 the gradient is x itself."""
    real, fake, epsilon = torch.full((3, 1, 1, 1), 5.0), torch.full((3, 1, 1, 1), 1.0), torch.tensor([0.0, 0.5, 1.0])

    penalty = gradient_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, real, fake, epsilon)

    assert penalty.item() == pytest.approx(((1 - 1) ** 2 + (3 - 1) ** 2 + (5 - 1) ** 2) / 3)


def test_gradient_penalty_of_patches_and_scales():
    """The value of an image is the mean of its patches, summed over the scales: of slope 2 here, where |x| is 1."""
    real = fake = torch.zeros(4, 1, 1, 1)

    def critic(x):
        return [x.expand(-1, 1, 3, 3), x.expand(-1, 1, 2, 2)]

    assert gradient_penalty(critic, real, fake, torch.rand(4)).item() == pytest.approx(1)

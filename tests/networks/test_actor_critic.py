"""The gradients that soft actor-critic computes itself, beside those of automatic differentiation."""

import pytest
import torch

from mlcli.networks.actor_critic import LOG_DEVIATIONS, OBSERVATION, TARGET_ENTROPY, SoftActorCritic, forward, squashed

DISCOUNT = 0.9


def run(layers, x):
    """`forward` out of place, as automatic differentiation needs it."""
    x = x.expand(len(layers[0][0]), -1, -1)
    for number, (weight, bias) in enumerate(layers, 1):
        x = torch.baddbmm(bias, x, weight)
        x = x if number == len(layers) else x.relu()
    return x


@pytest.mark.parametrize("spread", [1.0, 30.0])  # the second reaches the bounds of the deviation
def test_the_gradients_are_those_of_the_losses(spread):
    torch.manual_seed(0)
    networks = SoftActorCritic(8)
    networks.flat.data.mul_(spread**0.5)
    networks.average(1.0)
    batch, noise = torch.randn(16, 8), torch.randn(32, 1)
    losses = networks.differentiate(batch, noise, DISCOUNT)

    flat = networks.flat.detach().clone().requires_grad_(True)
    actor, critic, log_temperature = networks.parts(flat)
    fixed = [(weight.detach(), bias.detach()) for weight, bias in critic]
    x, action, reward, later = batch.split([OBSERVATION, 1, 1, OBSERVATION], 1)

    def drawn(observations, random):
        mean, log_deviation = run(actor, observations)[0].chunk(2, -1)
        return squashed(mean, log_deviation.clamp(*LOG_DEVIATIONS), random)

    temperature = log_temperature.exp().detach()
    with torch.no_grad():
        action_later, density_later = drawn(later, noise[16:])
        value_later = run(fixed, torch.cat([later, action_later], 1)).amin(0)
        wanted = reward + DISCOUNT * (value_later - temperature * density_later)
    of_critic = ((run(critic, torch.cat([x, action], 1)) - wanted) ** 2).mean(1).sum()
    own, density = drawn(x, noise[:16])
    of_actor = (temperature * density - run(fixed, torch.cat([x, own], 1)).amin(0)).mean()
    of_temperature = -(log_temperature * (density.detach().mean() + TARGET_ENTROPY)).sum()
    (of_critic + of_actor + of_temperature).backward()
    largest = flat.grad.abs().max()
    assert (networks.flat.grad - flat.grad).abs().max() <= 1e-5 * largest
    assert losses["loss_critic"].item() == pytest.approx(of_critic.item() / 2, rel=1e-4)
    assert losses["loss_actor"].item() == pytest.approx(of_actor.item(), rel=1e-4)


def test_the_actor_by_itself_is_that_of_the_networks():
    torch.manual_seed(1)
    networks, x = SoftActorCritic(5), torch.randn(7, OBSERVATION)
    actor = networks.actor()
    assert torch.equal(actor.mean_action(x), networks.act(x, torch.zeros(7, 1))[:, 0])
    assert actor.flat.data_ptr() != networks.flat.data_ptr()
    assert forward(networks.parts(networks.flat)[1], torch.randn(4, 4))[-1].shape == (2, 4, 1)


def test_the_target_follows_the_values():
    networks = SoftActorCritic(5)
    networks.flat.data.add_(1)
    before = networks.target.clone()
    networks.average(0.25)
    assert torch.allclose(networks.target, before + 0.25)

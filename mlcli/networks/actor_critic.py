"""The networks of soft actor-critic (Haarnoja et al. 2018): a policy of one action, and two values of it.

They are so small that the bookkeeping of automatic differentiation would take most of the time, so `SoftActorCritic`
computes its gradients itself; tests hold them against those of torch.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OBSERVATION = 3  # cosine and sine of the angle, and the velocity
LOG_DEVIATIONS = (-5.0, 2.0)  # bounds of the logarithm of the standard deviation
TARGET_ENTROPY = -1.0  # minus the dimension of the action

Layers = Sequence[tuple[Tensor, Tensor]]


def shapes(count: int, *sizes: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The shapes of the weights and biases of `count` perceptrons with layers of these sizes."""
    return [((count, n, m), (count, 1, m)) for n, m in zip(sizes, sizes[1:], strict=False)]


def views(flat: Tensor, of: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Layers:
    """The parts of a vector as weights and biases of these shapes."""
    sizes = [math.prod(shape) for pair in of for shape in pair]
    parts = iter(flat.split(sizes))
    return [(next(parts).view(weight), next(parts).view(bias)) for weight, bias in of]


def forward(layers: Layers, x: Tensor) -> list[Tensor]:
    """[x, the outputs of the hidden layers after their ReLUs, the output], each (count, N, size)."""
    outputs = [x.expand(len(layers[0][0]), -1, -1)]
    for number, (weight, bias) in enumerate(layers, 1):
        x = torch.baddbmm(bias, outputs[-1], weight)
        outputs.append(x if number == len(layers) else x.relu_())
    return outputs


def backward(layers: Layers, outputs: Sequence[Tensor], gradient: Tensor, into: Layers, rows: int) -> Tensor:
    """The gradient at the first hidden layer, before its ReLU, of the one at the output, (count, N, size).

    into: where the gradients of weights and biases are written, of the first `rows` rows alone.
    """
    for number in reversed(range(len(layers))):
        weight_gradient, bias_gradient = into[number]
        torch.bmm(outputs[number][:, :rows].mT, gradient[:, :rows], out=weight_gradient)
        torch.sum(gradient[:, :rows], 1, keepdim=True, out=bias_gradient)
        if number:
            gradient = torch.bmm(gradient, layers[number][0].mT)
            gradient = torch.where(outputs[number] > 0, gradient, 0.0)
    return gradient


class Actor(nn.Module):
    """A normal distribution of an action, squashed by tanh to [-1, 1]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden, self.shapes = hidden, shapes(1, OBSERVATION, hidden, hidden, 2)
        self.flat = nn.Parameter(initialized(self.shapes), requires_grad=False)

    def mean_action(self, x: Tensor) -> Tensor:
        """(N,): the action without noise, for observations (N, 3)."""
        return forward(views(self.flat, self.shapes), x)[-1][0, :, 0].tanh()


def initialized(of: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Tensor:
    """A vector of weights and biases, each uniform within 1 / √inputs, as PyTorch has it for a linear layer."""
    parts = []
    for weight, bias in of:
        bound = 1 / math.sqrt(weight[1])
        parts += [torch.empty(math.prod(shape)).uniform_(-bound, bound) for shape in (weight, bias)]
    return torch.cat(parts)


def squashed(mean: Tensor, log_deviation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """(actions in [-1, 1], logarithms of their densities) of normal distributions, (N, 1) each."""
    raw = mean + log_deviation.exp() * noise
    log_density = -0.5 * noise**2 - log_deviation - 0.5 * math.log(2 * math.pi)
    # minus log(1 - tanh²), in a form that does not overflow
    return raw.tanh(), log_density - 2 * (math.log(2) - raw - F.softplus(-2 * raw))


class SoftActorCritic(nn.Module):
    """A policy, two values of its actions of which the smaller counts (Fujimoto et al. 2018), and a temperature.

    flat: all that is learned in one vector, and `target` the moving average of the values, so that each update is one
    operation.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.actor_shapes = shapes(1, OBSERVATION, hidden, hidden, 2)
        self.critic_shapes = shapes(2, OBSERVATION + 1, hidden, hidden, 1)
        actor, critic = initialized(self.actor_shapes), initialized(self.critic_shapes)
        self.sizes = (len(actor), len(critic), 1)
        self.flat = nn.Parameter(torch.cat([actor, critic, torch.zeros(1)]), requires_grad=False)
        self.flat.grad = torch.zeros_like(self.flat)
        self.register_buffer("target", critic.clone())
        self.target: Tensor

    def parts(self, flat: Tensor) -> tuple[Layers, Layers, Tensor]:
        """(layers of the actor, layers of the critic, logarithm of the temperature (1,)) in a vector."""
        actor, critic, log_temperature = flat.split(self.sizes)
        return views(actor, self.actor_shapes), views(critic, self.critic_shapes), log_temperature

    def act(self, x: Tensor, noise: Tensor) -> Tensor:
        """Actions (N, 1) for observations (N, 3) and standard normal noise (N, 1)."""
        mean, log_deviation = forward(self.parts(self.flat)[0], x)[-1][0].chunk(2, -1)
        return squashed(mean, log_deviation.clamp(*LOG_DEVIATIONS), noise)[0]

    def differentiate(self, batch: Tensor, noise: Tensor, discount: float) -> dict[str, Tensor]:
        """Write the gradients of all three losses on a batch to `flat.grad`; returns the losses.

        batch: (B, 8), of each remembered step the observation, the action, the reward and the next observation.
        noise: (2 B, 1), standard normal, of the actions at the observations and at the next ones.
        """
        assert self.flat.grad is not None
        count = len(batch)
        x, action, reward, later = batch.split([OBSERVATION, 1, 1, OBSERVATION], 1)
        actor, critic, log_temperature = self.parts(self.flat)
        into_actor, into_critic, into_temperature = self.parts(self.flat.grad)
        temperature = log_temperature.exp()

        actor_outputs = forward(actor, torch.cat([x, later]))
        mean, wide = actor_outputs[-1][0].chunk(2, -1)
        log_deviation = wide.clamp(*LOG_DEVIATIONS)
        drawn, log_density = squashed(mean, log_deviation, noise)
        now, own_density = drawn[:count], log_density[:count]
        next_inputs = torch.cat([later, drawn[count:]], 1)
        next_value = forward(views(self.target, self.critic_shapes), next_inputs)[-1].amin(0)
        wanted = reward + discount * (next_value - temperature * log_density[count:])

        critic_outputs = forward(critic, torch.cat([torch.cat([x, action], 1), torch.cat([x, now], 1)]))
        values = critic_outputs[-1]
        error = values[:, :count] - wanted
        own_values = values[:, count:]
        least = (own_values == own_values.amin(0)).float()
        at_values = torch.cat([2 / count * error, least / (-count * least.sum(0))], 1)
        at_first = backward(critic, critic_outputs, at_values, into_critic, count)
        at_action = torch.bmm(at_first[:, count:], critic[0][0][:, OBSERVATION:].mT).sum(0)

        per_row = temperature / count
        at_raw = at_action * (1 - now**2) + 2 * per_row * now
        inside = (wide[:count] > LOG_DEVIATIONS[0]) & (wide[:count] < LOG_DEVIATIONS[1])
        at_deviation = (at_raw * log_deviation[:count].exp() * noise[:count] - per_row) * inside
        at_output = torch.cat([at_raw, at_deviation], 1)[None]
        backward(actor, [each[:, :count] for each in actor_outputs], at_output, into_actor, count)
        entropy = -own_density.mean()
        into_temperature.copy_(entropy - TARGET_ENTROPY)
        return {
            "loss_critic": error.square().mean(),
            "loss_actor": (temperature * own_density - own_values.amin(0)).mean(),
            "entropy": entropy,
            "temperature": temperature[0],
        }

    def average(self, fraction: float) -> None:
        """Move the target by this fraction toward the values that are learned."""
        self.target.lerp_(self.flat.split(self.sizes)[1], fraction)

    def actor(self) -> Actor:
        """The policy by itself, a copy."""
        actor = Actor(self.hidden)
        actor.flat.data.copy_(self.flat[: self.sizes[0]])
        return actor.eval()

"""Soft actor-critic (Haarnoja et al. 2018, 2019): a policy learned from rewards, without a model of the pendulum.

Deviations: all networks and the temperature are updated by one step of one optimizer, and there is an update for each
step of the pendulum from the end of the first, random episode on. In the second half of the steps the learning rate
falls linearly to 0. The networks see cos(angle), sin(angle) and the
velocity in units of the frequency √(g / l), and give the torque in units of its bound, so they are dimensionless.
"""

from typing import Any

import torch
from torch import Tensor

from mlcli.methods.control.configs import Sac
from mlcli.methods.control.learner import Learner
from mlcli.methods.control.pendulum import STEPS, Pendulum
from mlcli.methods.control.policies import Network, Policy
from mlcli.networks.actor_critic import SoftActorCritic
from mlcli.runtime.random_streams import rng
from mlcli.training.optimizers import Adam
from mlcli.training.schedules import linear

# Of (cos, sin, velocity), action, reward, (cos, sin, velocity): what a step is multiplied by to be its reflection
OPPOSITE = torch.tensor([1.0, -1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0])


class SacLearner(Learner):
    """Training of one policy by soft actor-critic. Draw the first weights from torch's global generator before."""

    name = "sac"

    def __init__(self, pendulum: Pendulum, task: str, episodes: int, config: Sac, seed: int) -> None:
        super().__init__(pendulum, task, episodes, seed)
        self.config, self.steps = config, episodes * STEPS
        self.units = torch.tensor([1.0, 1.0, pendulum.frequency], dtype=torch.float64)
        self.networks = SoftActorCritic(config.hidden)
        # fused: one operation for the one vector of all parameters
        self.optimizer = Adam([self.networks.flat], config.lr, fused=True)
        self.state |= {"networks": self.networks, "optimizer": self.optimizer}

    @property
    def policy(self) -> Policy:
        p = self.pendulum
        return Policy(Network(self.networks.actor(), p.frequency, p.max_torque), p)

    def load(self, indices: Tensor, step: int) -> Any:
        """(noise of the action, which steps to remember as fractions of all, noise of the update) of a step."""
        random, count = rng(self.seed, "sac/step", step), self.config.batch_size
        return (
            torch.randn(1, 1, generator=random),
            torch.rand(count, generator=random, dtype=torch.float64),
            torch.randn(2 * count, 1, generator=random),
        )

    def step(self, batch: Any, step: int) -> dict[str, Tensor]:
        action_noise, chosen, update_noise = batch
        experience = self.experience
        experience.begin()
        reward = experience.advance(self._action(action_noise, step)[0].double() * self.pendulum.max_torque)
        figures = {"reward": reward}
        if experience.count >= self.config.random_episodes * STEPS:
            remembered = self._remembered((chosen * experience.count).long())
            figures |= self.networks.differentiate(remembered, update_noise, self.config.discount)
            self.optimizer.param_groups[0]["lr"] = self.config.lr * linear(step, self.steps)
            self.optimizer.step()
            self.networks.average(self.config.averaging)
        return figures

    def _action(self, noise: Tensor, step: int) -> Tensor:
        """(1, 1), in units of the greatest torque; in random episodes uniform, by the distribution of the noise."""
        if step < self.config.random_episodes * STEPS:
            return torch.erf(noise / 2**0.5)
        return self.networks.act(self._features(self.experience.observed()[None]), noise)

    def _features(self, observations: Tensor) -> Tensor:
        """(N, 3) float32: what the networks see of observations."""
        return (observations / self.units).float()

    def _remembered(self, rows: Tensor) -> Tensor:
        """(B, 8) float32: the steps of these rows as `SoftActorCritic.differentiate` takes them."""
        experience = self.experience
        parts = (
            self._features(experience.observations[rows]),
            (experience.torques[rows, None] / self.pendulum.max_torque).float(),
            (experience.rewards[rows, None] * self.config.reward_factor).float(),
            self._features(experience.next_observations[rows]),
        )
        remembered = torch.cat(parts, 1)
        # The opposite state under the opposite torque goes the opposite way, so each step is worth two
        remembered[::2] *= OPPOSITE
        return remembered

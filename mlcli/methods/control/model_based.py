"""Model-based learning: the equations are identified from what was seen, and the policy is planned on them.

In the first episode torques of either bound are drawn at random and held for some steps each; later episodes follow
the policy. After each episode all steps so far identify the equations (`identification`), on which dynamic programming
plans a swing-up, and the Riccati equation a balance.
"""

from typing import Any

import torch
from torch import Tensor

from mlcli.methods.control import dynamic_programming, linear_quadratic
from mlcli.methods.control.equations import state
from mlcli.methods.control.identification import Coefficients, identify
from mlcli.methods.control.learner import Learner
from mlcli.methods.control.pendulum import STEPS, Pendulum
from mlcli.methods.control.policies import Linear, Policy
from mlcli.runtime.random_streams import rng

HELD = 5  # steps for which a random torque is held


def random_torques(pendulum: Pendulum, seed: int, episode: int) -> Tensor:
    """(STEPS,): one of both bounds, drawn anew after each HELD steps."""
    random = rng(seed, "pendulum/random-torques", episode)
    signs = torch.randint(2, (STEPS // HELD,), generator=random) * 2 - 1
    return signs.repeat_interleave(HELD).double() * pendulum.max_torque


def best_policy(pendulum: Pendulum, task: str) -> Policy:
    """The optimal policy of a task, where the parameters of the pendulum are known or identified."""
    if task == "balance":
        return linear_quadratic.regulator(pendulum)
    return dynamic_programming.plan(pendulum).policy


class ModelBasedLearner(Learner):
    """Learning of the equations, and of one policy by them."""

    name = "model-based"

    def __init__(self, pendulum: Pendulum, task: str, episodes: int, seed: int) -> None:
        super().__init__(pendulum, task, episodes, seed)
        self.coefficients: Coefficients | None = None
        self._planned = 0  # the number of whole episodes that the policy is planned by
        self._policy = Policy(Linear(torch.zeros(2, dtype=torch.float64)), pendulum)

    @property
    def policy(self) -> Policy:
        """The plan by all whole episodes; no torque before the first one has ended.

        It depends on the experience alone, so a resumed run plans the same.
        """
        whole = self.experience.count // STEPS
        if whole != self._planned:
            self.coefficients = identify(self.experience.whole_episodes(), self.pendulum)
            identified = self.coefficients.pendulum(self.pendulum, self.pendulum.gravity)
            self._policy = best_policy(identified, self.task).on(self.pendulum)
            self._planned = whole
        return self._policy

    def step(self, batch: Any, step: int) -> dict[str, Tensor]:
        experience = self.experience
        experience.begin()
        if step < STEPS:
            torque = random_torques(self.pendulum, self.seed, 0)[step : step + 1]
        else:
            torque = self.policy(*(each[None] for each in state(experience.observed())))
        return {"reward": experience.advance(torque)}

    def evaluate(self) -> dict[str, float]:
        figures = super().evaluate()
        found = self.coefficients
        return figures | ({"gravity_coefficient": found.gravity, "motor_coefficient": found.motor} if found else {})

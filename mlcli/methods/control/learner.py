"""What both methods of learning have in common: their experience, how training.loop drives them, how they are measured.

A step of the loop is a step of the pendulum, and an epoch is an episode.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from mlcli.methods.control import dynamic_programming, linear_quadratic
from mlcli.methods.control.equations import advance, evaluated, observation, starts
from mlcli.methods.control.identification import Seen
from mlcli.methods.control.pendulum import STEPS, Pendulum
from mlcli.methods.control.policies import Policy
from mlcli.methods.evaluation.significance import bootstrap
from mlcli.runtime.random_streams import rng
from mlcli.training.run_folder import Run

EVALUATED = 200  # episodes of each point of the learning curve
MEASURED = 1000  # episodes that a finished policy is measured on
LEARNED, OPTIMUM, REGULATOR = "learned", "dynamic programming", "LQR"
KEPT = ("observations", "torques", "rewards", "next_observations")  # of Experience, with its state


class Experience:
    """A pendulum in its present state, and all steps so far.

    observations: (capacity, 3), before each step.  torques, rewards: (capacity,).  next_observations: (capacity, 3).
    All float64; the first `count` rows hold steps.
    """

    def __init__(self, pendulum: Pendulum, task: str, episodes: int, seed: int) -> None:
        self.pendulum, self.task, self.seed = pendulum, task, seed
        capacity = episodes * STEPS
        self.observations, self.next_observations = (torch.zeros(capacity, 3, dtype=torch.float64) for _ in range(2))
        self.torques, self.rewards = (torch.zeros(capacity, dtype=torch.float64) for _ in range(2))
        self.count = 0
        self.angle = self.velocity = torch.zeros(1, dtype=torch.float64)

    def begin(self) -> None:
        """Begin an episode where the last one has ended."""
        if self.count % STEPS == 0:
            random = rng(self.seed, "pendulum/starts", self.count // STEPS)
            self.angle, self.velocity = starts(self.pendulum, self.task, 1, random)

    def observed(self) -> Tensor:
        """(3,): the observation of the present state."""
        return observation(self.angle, self.velocity)[0]

    def advance(self, torque: Tensor) -> Tensor:
        """One step with a torque (1,), which is remembered as clipped; the reward."""
        torque = torque.clamp(-self.pendulum.max_torque, self.pendulum.max_torque)
        row = self.count
        self.observations[row] = self.observed()
        self.angle, self.velocity, reward = advance(self.pendulum, self.angle, self.velocity, torque)
        self.next_observations[row] = self.observed()
        self.torques[row], self.rewards[row] = torque[0], reward[0]
        self.count += 1
        return reward[0]

    def whole_episodes(self) -> list[Seen]:
        """What was seen of the episodes that have ended."""
        found = []
        for first in range(0, self.count - STEPS + 1, STEPS):
            rows = slice(first, first + STEPS)
            last = self.next_observations[first + STEPS - 1]
            found.append(Seen(torch.cat([self.observations[rows], last[None]]), self.torques[rows]))
        return found

    def state_dict(self) -> dict[str, Any]:
        kept = {name: getattr(self, name)[: self.count].clone() for name in KEPT}
        return kept | {"count": self.count, "angle": self.angle, "velocity": self.velocity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in KEPT:
            getattr(self, name)[: state["count"]] = state[name]
        self.count, self.angle, self.velocity = state["count"], state["angle"], state["velocity"]


class Learner(ABC):
    """A method that learns from `Experience`. A subclass has its own parts of the state.

    The figures are of episodes apart from the experience, whose starts are the same each time.
    """

    name = ""

    def __init__(self, pendulum: Pendulum, task: str, episodes: int, seed: int) -> None:
        self.pendulum, self.task, self.seed = pendulum, task, seed
        self.experience = Experience(pendulum, task, episodes, seed)
        self.state: dict[str, Any] = {"experience": self.experience}

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """The policy that is learned so far."""

    def load(self, indices: Tensor, step: int) -> Any:
        """Nothing: the experience comes of the steps themselves."""
        return None

    @abstractmethod
    def step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """One step of the pendulum, and what is learned of it; the reward, and the losses by name."""

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        return [f"step {step + 1}"]

    def warning(self, values: Mapping[str, float]) -> str:
        return ""

    def evaluate(self) -> dict[str, float]:
        episodes = evaluated(self.pendulum, self.policy, self.task, EVALUATED)
        return {"val_return": episodes.returns.mean().item(), "upright": episodes.upright}

    def samples(self) -> dict[str, Tensor | Image]:
        """A map of the policy: the torque over the states."""
        from mlcli.methods.control.maps import policy_map
        from mlcli.reporting import charts
        from mlcli.reporting.pendulums import phase_charts

        return {"policy": charts.to_image(phase_charts.map_chart(policy_map("Policy", self.policy)))}

    def save_model(self, run: Run) -> None:
        self.policy.save(run, task=self.task, method=self.name)


def measured(policy: Policy, task: str) -> dict[str, Any]:
    """The returns of a policy on its own pendulum, beside those of the best ones, over the same episodes.

    The best are by dynamic programming and, for balance, by the Riccati equation.
    """
    pendulum = policy.pendulum
    policies = {LEARNED: policy, OPTIMUM: dynamic_programming.plan(pendulum).policy}
    if task == "balance":
        policies[REGULATOR] = linear_quadratic.regulator(pendulum)
    rows = []
    for name, each in policies.items():
        episodes = evaluated(pendulum, each, task, MEASURED)
        returns = {
            "mean": episodes.returns.mean().item(),
            "sd": episodes.returns.std().item(),
            "interval": list(bootstrap(episodes.returns)),
        }
        rows.append({"name": name, "return": returns, "upright": episodes.upright, "fallen": episodes.fallen})
    return {"task": task, "count": MEASURED, "pendulum": pendulum.as_json(), "policies": rows}

"""What both methods of learning have in common: training.loop drives them, a step for each step of the pendulum."""

from collections.abc import Mapping
from typing import Any

from PIL.Image import Image
from torch import Tensor

from mlcli.methods.control.equations import evaluated
from mlcli.methods.control.experience import Experience
from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.policies import Policy
from mlcli.training.run_folder import Run

EVALUATED = 200  # episodes of each point of the learning curve


class Learner:
    """A method that learns from `Experience`. A subclass has `policy`, `step` and its own parts of the state.

    The figures are of episodes apart from the experience, whose starts are the same each time.
    """

    name = ""

    def __init__(self, pendulum: Pendulum, task: str, episodes: int, seed: int) -> None:
        self.pendulum, self.task, self.seed = pendulum, task, seed
        self.experience = Experience(pendulum, task, episodes, seed)
        self.state: dict[str, Any] = {"experience": self.experience}

    @property
    def policy(self) -> Policy:
        """The policy that is learned so far."""
        raise NotImplementedError

    def load(self, indices: Tensor, step: int) -> Any:
        """Nothing: the experience comes of the steps themselves."""
        return None

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
        from mlcli.reporting import charts, phase_charts

        return {"policy": charts.to_image(phase_charts.maps_chart([policy_map("Policy", self.policy)]))}

    def save_model(self, run: Run) -> None:
        self.policy.save(run, task=self.task, method=self.name)

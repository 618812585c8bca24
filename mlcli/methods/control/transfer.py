"""A policy carried from a small pendulum to a large one: as it is, scaled, fine-tuned, beside what is learned there.

Fine-tuning: the scaled policy controls some episodes of the large pendulum, with a little of random torque added; they
identify its equations (`identification`), on which the best policy is planned. Every row is measured on the same starts
in each of several seeds, which also decide the experience and the noise.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mlcli.methods.control.configs import Sac
from mlcli.methods.control.equations import Control, Episodes, evaluated, simulate, starts
from mlcli.methods.control.identification import Coefficients, Seen, identify, seen
from mlcli.methods.control.learner import Learner
from mlcli.methods.control.model_based import ModelBasedLearner, best_policy, random_torques
from mlcli.methods.control.observer import Observer, from_images
from mlcli.methods.control.pendulum import STEPS, Pendulum
from mlcli.methods.control.policies import Policy, Trained
from mlcli.methods.control.sac import SacLearner
from mlcli.methods.control.similarity import Scaling, best_scaling
from mlcli.runtime.random_streams import rng, seed_global

DITHER = 0.05  # of the greatest torque, added while fine-tuning so that the equations can be told
# Quantiles of Student's t at 97.5 %, for 1 to 29 degrees of freedom
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045),
)


@dataclass(frozen=True)
class Task:
    """What is transferred where, and how it is measured.

    gravity: under which mass and length are told from identified coefficients.  finetune: numbers of episodes, each a
    row of the table.  noise: of observations, a fraction of their ranges.  count: episodes that a row is measured on.
    observer: makes, of a seed, what shows the large pendulum to the scaled policy in images; None where nothing does.
    """

    trained: Trained
    large: Pendulum
    gravity: float
    identify: bool
    finetune: Sequence[int]
    noise: float
    count: int
    observer: Callable[[int], Observer] | None = None

    @property
    def small(self) -> Pendulum:
        return self.trained.policy.pendulum


@dataclass
class Row:
    """A policy in the table. used: episodes of the large pendulum that it has cost.

    learning: the mean return of these episodes; None where there are none.
    """

    name: str
    used: int
    returns: list[float] = field(default_factory=list)
    upright: list[float] = field(default_factory=list)
    fallen: list[float] = field(default_factory=list)
    learning: list[float] = field(default_factory=list)

    def add(self, episodes: Episodes, learning: float | None = None) -> None:
        """Take in the episodes of a seed."""
        self.returns.append(episodes.returns.mean().item())
        self.upright.append(episodes.upright)
        self.fallen.append(episodes.fallen)
        if learning is not None:
            self.learning.append(learning)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "episodes": self.used,
            "return": summary(self.returns),
            "upright": sum(self.upright) / len(self.upright),
            "fallen": sum(self.fallen) / len(self.fallen),
            "return_while_learning": sum(self.learning) / len(self.learning) if self.learning else None,
        }


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation and 95 % confidence interval of the mean (Student's) of one value for each seed."""
    count, mean = len(values), sum(values) / len(values)
    if count == 1:
        return {"mean": mean, "sd": None, "interval": None, "runs": list(values)}
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    half = STUDENT[count - 2] * sd / math.sqrt(count)
    return {"mean": mean, "sd": sd, "interval": [mean - half, mean + half], "runs": list(values)}


@dataclass
class SeedResult:
    """What one seed has made, besides the figures. policies: by the names of the rows."""

    scaling: Scaling
    policies: dict[str, Policy]
    coefficients: Coefficients | None = None


class Transfer:
    """The table of a transfer, filled seed by seed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.rows: dict[str, Row] = {}
        self.optimum = best_policy(task.large, task.trained.task)
        self.results: list[SeedResult] = []

    def measure(self, seed: int) -> None:
        """Measure all rows with a seed."""
        task = self.task
        large, policy = task.large, task.trained.policy
        self._add("small", policy, seed, on=task.small)
        self._add("naive", policy.on(large), seed)
        scaling = best_scaling(policy, large, task.trained.task)
        self._add("scaled", scaling.policy, seed)
        if task.observer:
            self._add("scaled, from images", from_images(scaling.policy, task.observer(seed), large.time_step), seed)
        result = SeedResult(scaling, {"small": policy, "naive": policy.on(large), "scaled": scaling.policy})
        experience: list[Seen] = []
        if task.identify:
            experience = self._random_episode(seed)
            result.coefficients = identify(experience, large)
            known = result.coefficients.pendulum(large, task.gravity)
            result.scaling = best_scaling(policy, known, task.trained.task)
            found = result.scaling.policy.on(large)
            result.policies["scaled, identified"] = found
            self._add("scaled, identified", found, seed, used=1)
        for count in task.finetune:
            name = f"fine-tuned, {count}"
            tuned, learning = self._finetuned(result.scaling.policy.on(large), experience, count, seed)
            result.policies[name] = tuned
            self._add(name, tuned, seed, used=count + len(experience), learning=learning)
        for count, scratch, learning in self._from_scratch(seed):
            self._add(f"from scratch, {count}", scratch, seed, used=count, learning=learning)
        result.policies["optimum"] = self.optimum
        self._add("optimum", self.optimum, seed)
        self.results.append(result)

    def _add(
        self,
        name: str,
        policy: Control,
        seed: int,
        *,
        on: Pendulum | None = None,
        used: int = 0,
        learning: float | None = None,
    ) -> None:
        task = self.task
        episodes = evaluated(on or task.large, policy, task.trained.task, task.count, seed)
        self.rows.setdefault(name, Row(name, used)).add(episodes, learning)

    def _seen(self, episodes: Episodes, seed: int, purpose: str) -> list[Seen]:
        return seen(episodes, self.task.large.max_speed, self.task.noise, rng(seed, purpose))

    def _random_episode(self, seed: int) -> list[Seen]:
        """One episode of the large pendulum under random torques."""
        task, large = self.task, self.task.large
        torques = iter(random_torques(large, seed, 0))
        begin = starts(large, task.trained.task, 1, rng(seed, "pendulum/identification"))
        episodes = simulate(large, lambda angle, velocity: next(torques).expand(1), *begin)
        return self._seen(episodes, seed, "pendulum/identification-noise")

    def _finetuned(self, policy: Policy, experience: Sequence[Seen], count: int, seed: int) -> tuple[Policy, float]:
        """(the policy planned after `count` episodes of this one, their mean return)."""
        task, large = self.task, self.task.large
        random = rng(seed, "pendulum/finetuning")
        begin = starts(large, task.trained.task, count, random)
        dithers = iter((torch.rand(STEPS, count, generator=random, dtype=torch.float64) * 2 - 1) * DITHER)
        episodes = simulate(
            large, lambda angle, velocity: policy(angle, velocity) + next(dithers) * large.max_torque, *begin
        )
        everything = [*experience, *self._seen(episodes, seed, "pendulum/finetuning-noise")]
        known = identify(everything, large).pendulum(large, task.gravity)
        return best_policy(known, task.trained.task).on(large), episodes.returns.mean().item()

    def _from_scratch(self, seed: int) -> list[tuple[int, Policy, float]]:
        """(episodes, policy, mean return while learning) of the run's own method on the large pendulum."""
        task, found = self.task, []
        if not task.finetune:
            return []
        longest, large = max(task.finetune), task.large
        seed_global(seed, "training/initialization")
        learner: Learner = (
            SacLearner(large, task.trained.task, longest, Sac(), seed)
            if task.trained.method == SacLearner.name
            else ModelBasedLearner(large, task.trained.task, longest, seed)
        )
        total = 0.0
        for step in range(longest * STEPS):
            total += float(learner.step(learner.load(torch.empty(0), step), step)["reward"])
            episodes, rest = divmod(step + 1, STEPS)
            if rest == 0 and episodes in task.finetune:
                found.append((episodes, learner.policy, total / episodes))
        return found

    def table(self) -> list[dict[str, Any]]:
        """The rows, each with the fraction of the gap between scaled and optimum that it closes (None: no gap)."""
        rows = [row.as_json() for row in self.rows.values()]
        means = {row["name"]: row["return"]["mean"] for row in rows}
        first = means.get("scaled, identified", means["scaled"])
        gap = means["optimum"] - first
        for row in rows:
            closes = gap > 0.01 * abs(means["optimum"]) and row["name"].startswith(("fine-tuned", "from scratch"))
            row["gap_closed"] = (row["return"]["mean"] - first) / gap if closes else None
        return rows

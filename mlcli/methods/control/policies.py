"""Policies of a pendulum: a table of torques, a linear law or a network, and how they are scaled to another pendulum.

A policy is learned on one pendulum and applied to another by two factors: of the velocity that it is told, and of the
torque that it asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from mlcli.io import schema
from mlcli.methods.control.equations import wrapped
from mlcli.methods.control.grids import Grid
from mlcli.methods.control.pendulum import Pendulum
from mlcli.models import artifacts
from mlcli.networks.actor_critic import Actor
from mlcli.training.run_folder import Run


class Rule(Protocol):
    """The torques (N,) of angles and velocities (N,), on the pendulum that it was learned on."""

    def __call__(self, angle: Tensor, velocity: Tensor) -> Tensor: ...

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps of it."""

    def describe(self) -> dict[str, Any]:
        """Its `form` and what else is needed to open it again."""


@dataclass(frozen=True)
class Table:
    """Torques (A, V) on a `Grid`, between whose points they are interpolated."""

    torques: Tensor
    max_speed: float

    def __call__(self, angle: Tensor, velocity: Tensor) -> Tensor:
        angles, velocities = self.torques.shape
        return Grid(angles, velocities, self.max_speed).interpolate(self.torques, angle, velocity)

    def tensors(self) -> dict[str, Tensor]:
        return {"torques": self.torques}

    def describe(self) -> dict[str, Any]:
        return {"form": "table", "max_speed": self.max_speed}


@dataclass(frozen=True)
class Linear:
    """torque = -(gain[0] angle + gain[1] velocity), with the angle in [-π, π)."""

    gain: Tensor

    def __call__(self, angle: Tensor, velocity: Tensor) -> Tensor:
        return -(self.gain[0] * wrapped(angle) + self.gain[1] * velocity)

    def tensors(self) -> dict[str, Tensor]:
        return {"gain": self.gain}

    def describe(self) -> dict[str, Any]:
        return {"form": "linear"}


@dataclass(frozen=True)
class Network:
    """The mean action of an actor, in units of the greatest torque; it sees the velocity in units of the frequency."""

    actor: Actor
    frequency: float
    max_torque: float

    def features(self, angle: Tensor, velocity: Tensor) -> Tensor:
        """(N, 3) float32: what the networks see of states."""
        return torch.stack([angle.cos(), angle.sin(), velocity / self.frequency], -1).float()

    @torch.no_grad()
    def __call__(self, angle: Tensor, velocity: Tensor) -> Tensor:
        return self.actor.mean_action(self.features(angle, velocity)).double() * self.max_torque

    def tensors(self) -> dict[str, Tensor]:
        return self.actor.state_dict()

    def describe(self) -> dict[str, Any]:
        return {
            "form": "network",
            "hidden": self.actor.hidden,
            "frequency": self.frequency,
            "max_torque": self.max_torque,
        }


@dataclass(frozen=True)
class Policy:
    """A rule, and the pendulum that it is applied to, whose bound the torques keep.

    velocity_factor, torque_factor: from that pendulum to the one on which the rule was learned, and back from it.
    """

    rule: Rule
    pendulum: Pendulum
    velocity_factor: float = 1.0
    torque_factor: float = 1.0

    def __call__(self, angle: Tensor, velocity: Tensor) -> Tensor:
        torque = self.rule(angle, velocity * self.velocity_factor) * self.torque_factor
        return torque.clamp(-self.pendulum.max_torque, self.pendulum.max_torque)

    def on(self, pendulum: Pendulum, velocity_factor: float = 1.0, torque_factor: float = 1.0) -> "Policy":
        """The same policy on another pendulum. Without factors it is applied as it is."""
        velocity, torque = self.velocity_factor * velocity_factor, self.torque_factor * torque_factor
        return replace(self, pendulum=pendulum, velocity_factor=velocity, torque_factor=torque)

    def save(self, run: Run, **more: Any) -> None:
        """Write it as the model of a run. more: of the run, for its description."""
        description = {
            "kind": POLICY.name,
            "rule": self.rule.describe(),
            "pendulum": self.pendulum.as_json(),
            "velocity_factor": self.velocity_factor,
            "torque_factor": self.torque_factor,
            **more,
        }
        artifacts.save(run.model_file, self.rule.tensors(), description)


POSITIVE = schema.number(1e-300)
POLICY = artifacts.ArtifactKind(
    "policy of a pendulum",
    "pendulum-train or pendulum-transfer",
    schema.record(
        {
            "rule": schema.record(
                {"form": schema.choice("table", "linear", "network")},
                {
                    "max_speed": POSITIVE,
                    "hidden": schema.integer(1, 1 << 16),
                    "frequency": POSITIVE,
                    "max_torque": POSITIVE,
                },
            ),
            "pendulum": schema.record(
                {name: schema.number(0) if name == "damping" else POSITIVE for name in Pendulum().as_json()},
                closed=True,
            ),
            "velocity_factor": POSITIVE,
            "torque_factor": POSITIVE,
            "task": schema.choice("swing-up", "balance"),
            "method": schema.choice("sac", "model-based"),
        }
    ),
)


@dataclass(frozen=True)
class Trained:
    """A policy as a file has it. hash: SHA-256 of the file."""

    policy: Policy
    task: str
    method: str
    hash: str


def load(run: Any) -> Trained:
    """The policy of a run of pendulum-train or pendulum-transfer, or in a file. Raises WeightsError."""
    from mlcli.io.files import file_hash

    artifact = artifacts.read_run(run, POLICY)
    with artifact.description_checked():
        said = artifact.description
        rule = _rule(said["rule"], artifact.tensors)
        policy = Policy(rule, Pendulum(**said["pendulum"]), said["velocity_factor"], said["torque_factor"])
        # two states, so that a table or a network of another shape is found now
        if not policy(torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)).isfinite().all():
            raise ValueError("its torques are no numbers")
        return Trained(policy, said["task"], said["method"], file_hash(artifact.file))


def _rule(said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Rule:
    """The rule of a description and its tensors."""
    if said["form"] == "table":
        torques = tensors["torques"].double()
        if torques.ndim != 2 or torques.shape[0] % 2 or not torques.shape[1] % 2 or min(torques.shape) < 2:
            raise ValueError(f"its table is of the shape {tuple(torques.shape)}")
        return Table(torques, said["max_speed"])
    if said["form"] == "linear":
        gain = tensors["gain"].double()
        if gain.shape != (2,):
            raise ValueError(f"its gain is of the shape {tuple(gain.shape)}")
        return Linear(gain)
    actor = Actor(said["hidden"])
    actor.load_state_dict(dict(tensors))
    return Network(actor.eval(), said["frequency"], said["max_torque"])

"""What is drawn of policies and values over the states of a pendulum, and of the paths that it takes."""

import torch

from mlcli.methods.control.dynamic_programming import Plan
from mlcli.methods.control.equations import START_ANGLES, Episodes, simulate, wrapped
from mlcli.methods.control.grids import Grid
from mlcli.methods.control.pendulum import Pendulum
from mlcli.methods.control.policies import Policy
from mlcli.reporting.pendulums.animation import Moving
from mlcli.reporting.pendulums.phase_charts import Portrait, StateMap

DRAWN = (120, 101)  # angles and velocities of a map of a policy
# Angles of the paths that are drawn, from rest, in units of the greatest one of the task; of swing-up the first hangs
STARTS = (1.0, 0.8, 0.6, 0.4, 0.2)
VELOCITY = "velocity (rad/s)"


def policy_map(title: str, policy: Policy) -> StateMap:
    """The torque of a policy in each state of its pendulum."""
    pendulum = policy.pendulum
    angles, velocities = Grid(*DRAWN, pendulum.max_speed).points()
    torques = policy(angles.reshape(-1), velocities.reshape(-1)).reshape(angles.shape)
    return StateMap(title, torques, pendulum.max_speed, VELOCITY, "torque (N m)", signed=True)


def value_map(title: str, plan: Plan) -> StateMap:
    """The return that is left from each state under the optimal policy."""
    return StateMap(title, plan.values, plan.grid.max_speed, VELOCITY, "return that is left")


def portrait(title: str, policy: Policy, task: str) -> Portrait:
    """The paths of a pendulum under a policy, from rest at some angles."""
    episodes = drawn_episodes(policy, task)
    return Portrait(title, wrapped(episodes.angles), episodes.velocities, policy.pendulum.max_speed, VELOCITY)


def moving(title: str, policy: Policy, task: str) -> Moving:
    """A pendulum under a policy, from rest; for swing-up it hangs at first."""
    episodes, pendulum = drawn_episodes(policy, task), policy.pendulum
    torques = episodes.torques[:, 0] / pendulum.max_torque
    return Moving(title, episodes.angles[:-1, 0].tolist(), torques.tolist(), pendulum.length, pendulum.time_step)


def drawn_episodes(policy: Policy, task: str) -> Episodes:
    """Episodes from rest at `STARTS`."""
    angles = torch.tensor(STARTS, dtype=torch.float64) * START_ANGLES[task]
    return simulate(policy.pendulum, policy, angles, torch.zeros_like(angles))


def named(pendulum: Pendulum) -> str:
    """A pendulum in a title."""
    return f"{pendulum.mass:.3g} kg, {pendulum.length:.3g} m"

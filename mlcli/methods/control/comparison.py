"""A policy beside the best ones of its pendulum: by dynamic programming and, for balance, by the Riccati equation."""

from typing import Any

from mlcli.methods.control import dynamic_programming, linear_quadratic
from mlcli.methods.control.equations import evaluated
from mlcli.methods.control.policies import Policy
from mlcli.methods.evaluation.significance import bootstrap

COUNT = 1000  # episodes that each policy is measured on
LEARNED, OPTIMUM, REGULATOR = "learned", "dynamic programming", "LQR"


def measured(policy: Policy, task: str) -> dict[str, Any]:
    """The returns of a policy on its own pendulum, beside those of the best ones, over the same episodes."""
    pendulum = policy.pendulum
    policies = {LEARNED: policy, OPTIMUM: dynamic_programming.plan(pendulum).policy}
    if task == "balance":
        policies[REGULATOR] = linear_quadratic.regulator(pendulum)
    rows = []
    for name, each in policies.items():
        episodes = evaluated(pendulum, each, task, COUNT)
        returns = {
            "mean": episodes.returns.mean().item(),
            "sd": episodes.returns.std().item(),
            "interval": list(bootstrap(episodes.returns)),
        }
        rows.append({"name": name, "return": returns, "upright": episodes.upright, "fallen": episodes.fallen})
    return {"task": task, "count": COUNT, "pendulum": pendulum.as_json(), "policies": rows}

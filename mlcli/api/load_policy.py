"""`mlcli.load_policy`: what a run of pendulum-train or pendulum-transfer has learned, as a function."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy

    from mlcli.methods.control.policies import Policy


class ObservationPolicy:
    """A function from observations to torques. policy: the same of angles and velocities, as tensors of torch."""

    def __init__(self, policy: "Policy") -> None:
        self.policy = policy

    def __call__(self, observation: "Sequence[Any] | numpy.ndarray[Any, Any]") -> "numpy.ndarray[Any, Any]":
        """Torques in N m, (..., 1) float64, for observations (..., 3): cos(angle), sin(angle) and velocity in rad/s.

        One observation gives an array of the shape (1,), as gymnasium takes an action.
        """
        import numpy
        import torch

        from mlcli.errors import UsageError
        from mlcli.methods.control.equations import state

        values = torch.as_tensor(numpy.asarray(observation, dtype="float64"))
        if values.ndim == 0 or values.shape[-1] != 3:
            raise UsageError(
                f"an observation of the shape {tuple(values.shape)}: give cos(angle), sin(angle) and the velocity"
            )
        if not values.isfinite().all():
            raise UsageError("an observation that is no finite number")
        angle, velocity = state(values.reshape(-1, 3))
        return self.policy(angle, velocity).reshape(*values.shape[:-1], 1).numpy()


def load_policy(run: str | os.PathLike[str]) -> ObservationPolicy:
    """The policy of a run of `mlcli.pendulum_train` or `mlcli.pendulum_transfer`, or in a file of one.

    It takes what gymnasium's Pendulum-v1 shows, one observation or a batch, and gives what it takes:

        >>> import mlcli
        >>> policy = mlcli.load_policy("runs/small")  # doctest: +SKIP
        >>> state, reward, *_ = env.step(policy(state))  # doctest: +SKIP

    Raises WeightsError where there is no policy.
    """
    from mlcli.methods.control import policies

    return ObservationPolicy(policies.load(os.fspath(run)).policy)

"""Guards against diverged training: losses, weights or outputs that are no longer finite numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mlcli.errors import MlcliError, TrainingError, WeightsError, out_of_memory
from mlcli.runtime.processes import Processes
from mlcli.training.method import Method
from mlcli.training.plan import Plan
from mlcli.training.run_folder import Run

DIVERGED_WEIGHT = 1e12  # weights of this size: sums of their products soon overflow


def check_losses(first_bad: Tensor, method: Method, plan: Plan, processes: Processes, run: Run) -> None:
    """Raise TrainingError with the file names of the first batch whose loss was not finite.

    first_bad: the step of that batch in this process, -1 if there was none.
    """
    steps = processes.all_gather(first_bad.reshape(1))
    if not (steps >= 0).any():
        return
    step = int(steps[steps >= 0].min())
    names = listed(method.name_batch(plan.indices(step), step))
    raise TrainingError(
        f"{run.folder}: the loss is no longer a number at step {step + 1}, in the batch of {names}. Look at these "
        "images; or start again with a lower --lr or with --precision fp32. The last good state is kept"
    )


def check_weights(method: Method, step: int, run: Run) -> None:
    """Raise TrainingError where weights are not finite, for before they are saved.

    The losses do not tell: they are of the weights before the last update.
    """
    for name, part in method.state.items():
        if isinstance(part, nn.Module) and not all(t.isfinite().all() for t in part.state_dict().values()):
            raise TrainingError(
                f"{run.folder}: the weights of the {name} are no longer numbers after step {step}; start again with a "
                "lower --lr or with --precision fp32. The last good state is kept"
            )


def checked_step(method: Method, batch: Any, step: int, run: Run) -> dict[str, Tensor]:
    """The losses of a step. Raises TrainingError where its update overflows, as with a learning rate of 1e39."""
    try:
        return method.step(batch, step)
    except (RuntimeError, OverflowError) as error:
        if "overflow" not in str(error).lower() or out_of_memory(error):
            raise
        raise TrainingError(
            f"{run.folder}: the update of step {step + 1} is larger than any number that a weight can be; start again "
            "with a lower --lr. The last good state is kept"
        ) from None


@contextmanager
def outputs_checked(method: Method, step: int, run: Run) -> Iterator[None]:
    """Evaluation, sampling or saving within the block. Raises TrainingError where it fails since networks diverged.

    Networks with finite weights can give outputs that are not finite; then the code that uses the outputs fails and is
    not to blame. Errors of networks whose weights are of a usual size are passed on.
    """
    try:
        yield
    except MlcliError as error:
        if not isinstance(error, WeightsError):
            raise
    except Exception as error:
        if out_of_memory(error) or not any(
            tensor.is_floating_point() and tensor.abs().max() > DIVERGED_WEIGHT
            for part in method.state.values()
            if isinstance(part, nn.Module)
            for tensor in part.state_dict().values()
            if tensor.numel()
        ):
            raise
    else:
        return
    raise TrainingError(
        f"{run.folder}: what the networks give is no longer a number after step {step}; start again with a lower "
        "--lr or with --precision fp32. The last good state is kept"
    ) from None


def listed(names: Sequence[str], most: int = 8) -> str:
    """The names of files in a message, at most `most` of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

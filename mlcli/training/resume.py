"""Resuming a run: its newest whole state loaded, and its metrics taken back to the step of that state."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlcli.errors import RunError, reason
from mlcli.runtime.processes import Processes
from mlcli.training.run_folder import Run


def resume(parts: Mapping[str, Any], run: Run, processes: Processes) -> tuple[int, int]:
    """Load the newest whole state into the parts, each an object with `load_state_dict`.

    Returns (the step that the state was saved after, 0 if there is none; the number of unreadable lines of the
    metrics). Raises RunError where the state does not fit the parts.
    """
    saved = run.load_state()
    processes.wait()
    step = 0
    if saved is not None:
        step = saved["step"]
        if missing := sorted(parts.keys() - saved.keys()):
            raise RunError(
                f"{run.folder}: its state has no {missing[0]}; another version of mlcli began it: begin again with "
                "--overwrite, or resume with that version"
            )
        for name, part in parts.items():
            try:
                part.load_state_dict(saved[name])
                _check_optimizer(part)
            except Exception as error:  # every kind of part fails in ways of its own
                raise RunError(
                    f"{run.folder}: its state after step {step} does not fit its {name} ({reason(error)}); begin again "
                    "with --overwrite, or resume with the options and the version of mlcli that it was started with"
                ) from None
    lost = 0
    if processes.main:
        run.sweep()
        lost = run.rewind_metrics(step)
    return step, lost


def last_figures(run: Run, step: int) -> dict[str, float]:
    """The figures of the last line logged after `step` steps: the result of a run that is finished already."""
    lines = [line for line in run.metrics() if line["step"] == step]
    figures = lines[-1].items() if lines else ()
    return {name: value for name, value in figures if name not in ("step", "seconds") and value is not None}


def _check_optimizer(part: object) -> None:
    """Raise ValueError where an optimizer keeps a value that does not have the shape of its parameter."""
    for parameter, kept in part.state.items() if isinstance(part, torch.optim.Optimizer) else ():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"its {name} is of {tuple(value.shape)} for {tuple(parameter.shape)}")

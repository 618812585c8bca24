"""The training loop of every method: batches, updates, logs, samples, saved states, resume and interrupts.

Step t of a run depends on (seed, t) and on the state after step t - 1, and on nothing else: not on when the run was
stopped, nor on what ran before. So a resumed run equals an unbroken one.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.errors import Interrupted, MlcliError
from mlcli.imaging.image_io import write
from mlcli.runtime import signals
from mlcli.runtime.device import trim_memory
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import seed_global
from mlcli.training.divergence import check_losses, check_weights, checked_step, listed, outputs_checked
from mlcli.training.loss_window import LossWindow
from mlcli.training.method import Method
from mlcli.training.plan import Plan
from mlcli.training.resume import last_figures, resume
from mlcli.training.run_folder import Run


@dataclass
class Progress:
    """What the loop tells its caller, for a progress bar or messages."""

    step: int
    steps: int
    epoch: int
    values: dict[str, float] = field(default_factory=dict)
    event: str = "step"  # step, epoch, saved, warning, resumed, done
    note: str = ""  # the text of a warning


def fit(
    method: Method,
    plan: Plan,
    run: Run,
    processes: Processes,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, float]:
    """Train to the end of the plan, or until a signal; returns the losses and figures of the last epoch.

    Raises Interrupted after SIGINT, SIGTERM or SIGHUP (the state is saved), and TrainingError at a loss that is not
    finite (the state before it is kept). Where metrics, samples or what `report` writes cannot be written, the training
    ends by the MlcliError of the write: after the state is saved or, at the last step, after the model is.
    """
    training = _Training(method, plan, run, processes, report)
    with signals.noted() as caught, _prefetched(method, plan, processes, training.step) as batches:
        for batch in batches:
            training.advance(batch, caught)
    return training.finish()


class _Training:
    """One call of `fit`: the run from the step that it resumes at to its end."""

    def __init__(
        self, method: Method, plan: Plan, run: Run, processes: Processes, report: Callable[[Progress], None]
    ) -> None:
        self.method, self.plan, self.run, self.processes, self.report = method, plan, run, processes, report
        self.window = LossWindow()
        self.parts = {**method.state, "window": self.window}
        self.start, lost = resume(self.parts, run, processes)
        self.step = self.start  # number of finished steps
        for line in self.window.unlogged if processes.main else ():
            run.log(*line)
        self.window.unlogged = []
        self.figures = last_figures(run, self.step)
        self.first_bad = torch.tensor(-1, device=processes.device)
        self.began = self.saved_at = time.monotonic()
        self.failures: list[MlcliError] = []  # of writes
        if self.step:
            self.tell("resumed")
        if lost:
            self.tell(
                "warning", note=f"left out of {run.metrics_file.name}: {counted(lost, 'line')} that cannot be read"
            )

    def advance(self, batch: Any, caught: Sequence[int]) -> None:
        """Do one step, and what the plan has due after it. caught: the signals that have arrived so far."""
        plan, processes = self.plan, self.processes
        self.update(batch)
        evaluates = plan.evaluates_after(self.step)
        logs = evaluates or self.step % plan.log_every == 0
        stops = processes.any(bool(caught or self.failures))
        saves = stops or self.step == plan.steps or processes.any(time.monotonic() - self.saved_at > plan.save_every)
        draws = plan.samples_after(self.step)
        if logs or saves or draws:
            check_losses(self.first_bad, self.method, plan, processes, self.run)
        if evaluates or saves or draws:
            check_weights(self.method, self.step, self.run)
        values = self.log(evaluates) if logs else {}
        if draws and processes.main:
            self.draw_samples()
        self.tell("epoch" if evaluates else "step", values)
        if saves:
            self.save()
        if stops:
            self.stop(caught)

    def update(self, batch: Any) -> None:
        """One step of the method, and its losses taken in."""
        # The same stream in every process: see processes.GroupDropout
        seed_global(self.plan.seed, "training/step", self.step, 0)
        losses = checked_step(self.method, batch, self.step, self.run)
        # Kept on the device: asking for the number at each step would make a GPU wait.
        finite = torch.stack([value.detach().float() for value in losses.values()]).sum().isfinite()
        self.first_bad = torch.where((self.first_bad < 0) & ~finite, self.step, self.first_bad)
        self.step += 1
        self.window.add(losses)

    def log(self, evaluates: bool) -> dict[str, float]:
        """Log the means of the losses, with the figures on validation data if they are due; returns them."""
        step = self.step
        values = {name: self.processes.mean(mean).item() for name, mean in self.window.empty().items()}
        if warning := self.method.warning(values):
            names = listed(self.method.name_batch(self.plan.indices(step - 1), step - 1))
            self.tell("warning", note=f"step {step}: {warning}. The last batch was {names}")
        if evaluates:
            with outputs_checked(self.method, step, self.run):
                values |= self.method.evaluate()
            self.figures = values
        logged = values | {"seconds": round(time.monotonic() - self.began, 2)}
        if self.processes.main and not self.attempt(self.run.log, step, logged):
            self.window.unlogged.append((step, logged))
        return values

    def draw_samples(self) -> None:
        """Write the samples of this step."""
        with outputs_checked(self.method, self.step, self.run):
            samples = self.method.samples()
        for name, image in samples.items():
            self.attempt(write, image, self.run.samples_folder / f"{name}-{self.step:08d}.png")

    def save(self) -> None:
        """Save the state, from which the run can be resumed."""
        self.window.synchronize(self.processes)
        if self.processes.main:
            self.run.save_state(self.step, {name: part.state_dict() for name, part in self.parts.items()})
        trim_memory()
        self.saved_at = time.monotonic()
        self.tell("saved")

    def stop(self, caught: Sequence[int]) -> None:
        """End the training before its last step, by the failure of a write or by a signal; the state is saved."""
        if self.failures and not caught:
            raise MlcliError(
                f"{self.failures[0]}. All is saved after step {self.step}; the same command with --resume resumes it"
            )
        number = caught[0] if caught else signal.SIGTERM
        raise Interrupted(f"interrupted after step {self.step} of {self.plan.steps}; all is saved", number)

    def finish(self) -> dict[str, float]:
        """Write the model; returns the last figures."""
        if self.processes.main and (self.step > self.start or not os.path.exists(self.run.model_file)):
            with outputs_checked(self.method, self.step, self.run):
                self.method.save_model(self.run)
        self.processes.wait()
        self.tell("done", self.figures)
        if self.failures:
            raise self.failures[0]
        return self.figures

    def attempt(self, write: Callable[..., None], *arguments: Any) -> bool:
        """Call a function that writes; whether it succeeded. A failure is kept and ends the training after saving."""
        try:
            write(*arguments)
            return True
        except MlcliError as error:
            self.failures.append(error)
            return False

    def tell(self, event: str, values: Mapping[str, float] | None = None, note: str = "") -> None:
        """Report an event."""
        epoch = self.step // self.plan.steps_per_epoch
        self.attempt(self.report, Progress(self.step, self.plan.steps, epoch, dict(values or {}), event, note))


@contextmanager
def _prefetched(method: Method, plan: Plan, processes: Processes, start: int) -> Iterator[Iterator[Any]]:
    """The batches of all steps from `start`, loaded by a thread a few steps ahead."""
    pool = ThreadPoolExecutor(1)

    def batches() -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        for step in range(start, plan.steps):
            while len(waiting) <= plan.prefetch and (ahead := step + len(waiting)) < plan.steps:
                waiting.append(pool.submit(method.load, _shard(plan, processes, ahead), ahead))
            yield waiting.popleft().result()

    try:
        yield batches()
    finally:
        pool.shutdown(cancel_futures=True)


def _shard(plan: Plan, processes: Processes, step: int) -> Tensor:
    """The indices of this process's shard of the batch of a step."""
    return processes.shard(plan.indices(step))

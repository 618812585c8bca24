"""The training loop of every method: order of the data, logs, checkpoints, resume, interrupts, guards.

Step t of a run depends on (seed, t) and on the state after step t - 1, and on nothing else: not on when it was
stopped, nor on what ran before. That makes a resumed run equal to an unbroken one.
"""

import math
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor, nn

from mlcli.errors import Interrupted, MlcliError, RunError, TrainingError, WeightsError, out_of_memory, reason
from mlcli.io.image_io import write
from mlcli.runtime import signals
from mlcli.runtime.device import trim_memory
from mlcli.runtime.processes import Processes
from mlcli.runtime.random_streams import rng, seed_global
from mlcli.training.run_folder import Run

BEYOND = 1e12  # of a weight: sums of such products are no numbers soon


class Method(Protocol):
    """What a method of the literature gives to the loop."""

    state: Mapping[str, Any]  # name -> object with state_dict and load_state_dict: networks, optimizers, pools

    def load(self, indices: Tensor, step: int) -> Any:
        """The batch of these indices (this process's share); called in a thread, ahead of its step."""

    def step(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Losses of step `step` (scalars), after the update of the networks."""

    def name_batch(self, indices: Tensor, step: int) -> list[str]:
        """The files of the batch of a step, for the message when a loss is no longer a number."""

    def evaluate(self) -> dict[str, float]:
        """Figures on validation data; called at the end of an epoch, or when the plan says, by every process."""

    def warning(self, values: Mapping[str, float]) -> str:
        """What is wrong with the logged means of the losses, though they are numbers; usually nothing ('')."""

    def samples(self) -> dict[str, Tensor | Image]:
        """Images by name, as `images.write` takes them, to be written beside the step; may be empty."""

    def save_model(self, run: Run) -> None:
        """Write the result."""


@dataclass
class Plan:
    """How long and how often.

    `items` and `batch_size` set the epoch: items // batch_size steps, the remainder of each shuffle left out.
    `log_every`, `sample_every` and `evaluate_every` are in steps, `save_every` in seconds. Samples are drawn, and
    figures measured, at the end of each epoch where theirs is None.
    """

    items: int
    batch_size: int
    epochs: int
    seed: int
    log_every: int = 20
    save_every: float = 60.0
    sample_every: int | None = None
    evaluate_every: int | None = None
    max_steps: int | None = None
    prefetch: int = 2

    def __post_init__(self):
        self.batch_size = min(self.batch_size, self.items)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self.items // self.batch_size)

    @property
    def steps(self) -> int:
        whole = self.steps_per_epoch * self.epochs
        return min(whole, self.max_steps) if self.max_steps else whole

    def samples_after(self, step: int) -> bool:
        """Whether images are drawn after so many steps."""
        return step == self.steps or step % (self.sample_every or self.steps_per_epoch) == 0

    def evaluates_after(self, step: int) -> bool:
        """Whether figures are measured after so many steps."""
        return step == self.steps or step % (self.evaluate_every or self.steps_per_epoch) == 0

    def indices(self, step: int) -> Tensor:
        """The batch (B,) of step `step`: epoch by epoch a new permutation, a function of (seed, step)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch = epoch
            self._order = torch.randperm(self.items, generator=rng(self.seed, "training/order", epoch))
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]


@dataclass
class Progress:
    """What the loop tells a caller who wants to draw a bar."""

    step: int
    steps: int
    epoch: int
    values: dict[str, float] = field(default_factory=dict)
    event: str = "step"  # step, epoch, saved, warning, resumed, done
    note: str = ""  # of a warning


def fit(
    method: Method,
    plan: Plan,
    run: Run,
    processes: Processes,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, float]:
    """Train to the end of the plan, or until a signal; returns the losses and figures of the last epoch.

    Raises Interrupted after SIGINT, SIGTERM or SIGHUP (state saved), TrainingError at a loss that is not finite
    (the state before it is kept). What cannot be written beside the state (metrics, samples, what `report` writes) ends
    the training too, by the MlcliError of the write, after the state is saved; at the last step, after the result is.
    """
    window = Window()
    parts = {**method.state, "window": window}
    start, lost = _resume(parts, run, processes)
    step = start
    for line in window.unlogged if processes.main else ():
        run.log(*line)
    window.unlogged = []
    figures = _last_figures(run, step)
    first_bad = torch.tensor(-1, device=processes.device)
    began = saved_at = time.monotonic()
    failures: list[MlcliError] = []

    def attempt(write: Callable[..., None], *arguments: Any) -> bool:
        """Whether it could be written."""
        try:
            write(*arguments)
            return True
        except MlcliError as error:
            failures.append(error)
            return False

    def tell(event: str, values: Mapping[str, float] | None = None, note: str = "") -> None:
        attempt(report, Progress(step, plan.steps, step // plan.steps_per_epoch, dict(values or {}), event, note))

    if step:
        tell("resumed")
    if lost:
        tell("warning", note=f"{lost} lines of {run.metrics_file.name} cannot be read and are left out")
    with signals.noted() as caught, _prefetched(method, plan, processes, step) as batches:
        for batch in batches:
            seed_global(plan.seed, "training/step", step, 0)  # of all processes alike: see processes.GroupDropout
            losses = _stepped(method, batch, step, run)
            # Kept on the device: asking for the number at each step would make a GPU wait.
            finite = torch.stack([value.detach().float() for value in losses.values()]).sum().isfinite()
            first_bad = torch.where((first_bad < 0) & ~finite, step, first_bad)
            step += 1
            window.add(losses)
            evaluates = plan.evaluates_after(step)
            logs = evaluates or step % plan.log_every == 0
            stops = processes.any(bool(caught or failures))
            saves = stops or step == plan.steps or processes.any(time.monotonic() - saved_at > plan.save_every)
            draws = plan.samples_after(step)
            if logs or saves or draws:
                _guard(first_bad, method, plan, processes, run)
            if evaluates or saves or draws:
                _guard_state(method, step, run)
            values = {}
            if logs:
                values = {name: processes.mean(mean).item() for name, mean in window.empty().items()}
                if warning := method.warning(values):
                    names = _named(method.name_batch(plan.indices(step - 1), step - 1))
                    tell("warning", note=f"step {step}: {warning}. The last batch was {names}")
                if evaluates:
                    with _of_numbers(method, step, run):
                        values |= method.evaluate()
                    figures = values
                logged = values | {"seconds": round(time.monotonic() - began, 2)}
                if processes.main and not attempt(run.log, step, logged):
                    window.unlogged.append((step, logged))
            if draws and processes.main:
                with _of_numbers(method, step, run):
                    drawn = method.samples()
                for name, image in drawn.items():
                    attempt(write, image, run.samples_folder / f"{name}-{step:08d}.png")
            tell("epoch" if evaluates else "step", values)
            if saves:
                window.level(processes)
                if processes.main:
                    run.save_state(step, {name: part.state_dict() for name, part in parts.items()})
                trim_memory()
                saved_at = time.monotonic()
                tell("saved")
            if stops and failures and not caught:
                raise MlcliError(f"{failures[0]}. All is saved after step {step}; the same command goes on by --resume")
            if stops:
                number = caught[0] if caught else signal.SIGTERM
                raise Interrupted(f"interrupted after step {step} of {plan.steps}; all is saved", number)
    if processes.main and (step > start or not os.path.exists(run.model_file)):
        with _of_numbers(method, step, run):
            method.save_model(run)
    processes.wait()
    tell("done", figures)
    if failures:
        raise failures[0]
    return figures


class Window:
    """Means of the losses since the last logged line; saved with the state, so that a resumed run logs the same.

    A loss may be of some steps alone; its mean is over those.
    """

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.unlogged: list[tuple[int, dict[str, float]]] = []  # what the run could not log, to be when it goes on

    def add(self, losses: Mapping[str, Tensor]) -> None:
        for name, value in losses.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.counts.update(losses.keys())

    def empty(self) -> dict[str, Tensor]:
        means = {name: total / self.counts[name] for name, total in self.sums.items()}
        self.sums, self.counts = {}, Counter()
        return means

    def level(self, processes: Processes) -> None:
        """Give every process the mean of all, so that what one of them saves serves each."""
        self.sums = {name: processes.mean(total) for name, total in self.sums.items()}

    def state_dict(self) -> dict:
        return {"sums": self.sums, "counts": dict(self.counts), "unlogged": self.unlogged}

    def load_state_dict(self, state: Mapping) -> None:
        self.sums, self.counts = dict(state["sums"]), Counter(state["counts"])
        self.unlogged = list(state.get("unlogged", ()))  # none in a state of former versions


def _resume(parts: Mapping[str, Any], run: Run, processes: Processes) -> tuple[int, int]:
    """Load the newest whole state into the parts: (the step it was saved after, or 0, lines lost of the metrics)."""
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
                    "with --overwrite, or resume with the options and the version of mlcli that it was begun with"
                ) from None
    lost = 0
    if processes.main:
        run.sweep()
        lost = run.rewind_metrics(step)
    return step, lost


def _check_optimizer(part: object) -> None:
    """Raise ValueError where an optimizer keeps a value that is not of its parameter's shape."""
    for parameter, kept in part.state.items() if isinstance(part, torch.optim.Optimizer) else ():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(f"its {name} is of {tuple(value.shape)} for {tuple(parameter.shape)}")


def _last_figures(run: Run, step: int) -> dict[str, float]:
    """The figures of the last logged line, for a run that is resumed when it is done already."""
    lines = [line for line in run.metrics() if line["step"] == step]
    figures = lines[-1].items() if lines else ()
    return {name: value for name, value in figures if name not in ("step", "seconds") and value is not None}


def _guard(first_bad: Tensor, method: Method, plan: Plan, processes: Processes, run: Run) -> None:
    """Raise TrainingError with the file names of the first batch whose loss was not finite."""
    steps = processes.all_gather(first_bad.reshape(1))  # of each process, -1 where all was well
    if not (steps >= 0).any():
        return
    step = int(steps[steps >= 0].min())
    names = _named(method.name_batch(plan.indices(step), step))
    raise TrainingError(
        f"{run.folder}: the loss is no longer a number at step {step + 1}, in the batch of {names}. Look at these "
        "images; or start again with a lower --lr or with --precision fp32. The last good state is kept"
    )


def _named(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _guard_state(method: Method, step: int, run: Run) -> None:
    """Raise TrainingError rather than save weights that are no numbers: losses are of the weights before the update."""
    for name, part in method.state.items():
        if isinstance(part, nn.Module) and not all(t.isfinite().all() for t in part.state_dict().values()):
            raise TrainingError(
                f"{run.folder}: the weights of the {name} are no longer numbers after step {step}; start again with a "
                "lower --lr or with --precision fp32. The last good state is kept"
            )


def _stepped(method: Method, batch: Any, step: int, run: Run) -> dict[str, Tensor]:
    """The losses of a step. Raises TrainingError where a learning rate is larger than what weights can hold."""
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
def _of_numbers(method: Method, step: int, run: Run) -> Iterator[None]:
    """Measuring or drawing by the networks. Raises TrainingError where they have grown beyond all measure.

    Their weights may be numbers, and what they answer none: what then fails is not the code that looks at it.
    """
    try:
        yield
    except MlcliError as error:
        if not isinstance(error, WeightsError):
            raise
    except Exception as error:
        if out_of_memory(error) or not any(
            tensor.is_floating_point() and tensor.abs().max() > BEYOND
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


@contextmanager
def _prefetched(method: Method, plan: Plan, processes: Processes, start: int) -> Iterator[Iterator]:
    """The batch of every step from `start`, loaded by a thread a few steps ahead."""
    pool = ThreadPoolExecutor(1)

    def batches() -> Iterator:
        waiting: deque = deque()
        for step in range(start, plan.steps):
            while len(waiting) <= plan.prefetch and (ahead := step + len(waiting)) < plan.steps:
                waiting.append(pool.submit(method.load, processes.shard(plan.indices(ahead)), ahead))
            yield waiting.popleft().result()

    try:
        yield batches()
    finally:
        pool.shutdown(cancel_futures=True)


def one_cycle(step: int, steps: int, *, warm: float = 0.25, first: float = 0.1) -> float:
    """Factor of the rate: linear from `first` to 1 over the `warm` share of the steps, then linear to 0."""
    position = step / steps
    return first + (1 - first) * position / warm if position < warm else (1 - position) / (1 - warm)


def cosine(step: int, steps: int, *, warm: float = 0.05, first: float = 0.1) -> float:
    """Factor of the rate: linear from `first` to 1 over the `warm` share of the steps, then a half cosine to 0."""
    position = step / steps
    if position < warm:
        return first + (1 - first) * position / warm
    return 0.5 * (1 + math.cos(math.pi * (position - warm) / (1 - warm)))


def linear(step: int, steps: int, *, hold: float = 0.5) -> float:
    """Factor of the rate: 1 for the `hold` share of the steps, then linear to 0 (100 + 100 epochs of CycleGAN)."""
    return min(1.0, (1 - step / steps) / (1 - hold))


def stepped(step: int, steps: int, *, stairs: int = 4, factor: float = 0.1) -> float:
    """Factor of the rate: constant on so many equal `stairs`, from one to the next times `factor`."""
    return factor ** (step * stairs // steps)


SCHEDULES = {
    "one-cycle": one_cycle,
    "cosine": cosine,
    "linear": linear,
    "step": stepped,
    "constant": lambda step, steps: 1.0,
}

"""The loop: interrupts and resume, logs, samples, and disks that are full."""

import json
import os
import resource
import signal
from contextlib import ExitStack, contextmanager

import pytest
import torch

from mlcli.errors import Interrupted, MlcliError
from mlcli.runtime.processes import Processes
from mlcli.training.loop import fit
from tests.linear_fit import CPU, LinearFit, lines, new_run, plan, train


def test_learns_and_writes_the_run_folder(tmp_path):
    run = new_run(tmp_path / "run")
    method, figures = train(run, epochs=20)
    assert method.network.weight.item() == pytest.approx(3, abs=0.05)
    assert method.network.bias.item() == pytest.approx(-1, abs=0.05)
    assert figures["slope"] == method.network.weight.item()
    assert run.model_file.is_file()
    assert [line["step"] for line in lines(run) if "slope" in line] == list(range(5, 101, 5))
    assert len(list(run.samples_folder.glob("fit-*.png"))) == 20


@pytest.mark.parametrize("stop", [1, 4, 5, 13, 29])
def test_interrupted_and_resumed_equals_unbroken(tmp_path, stop):
    whole = new_run(tmp_path / "whole")
    unbroken, _ = train(whole)

    def interrupt(step):
        if step == stop - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    broken = new_run(tmp_path / "broken")
    with pytest.raises(Interrupted, match=f"after step {stop} of 30") as caught:
        train(broken, LinearFit(at_step=interrupt))
    assert caught.value.exit_status == 143
    resumed, figures = train(broken)

    assert torch.equal(resumed.network.weight, unbroken.network.weight)
    assert torch.equal(resumed.network.bias, unbroken.network.bias)
    assert broken.model_file.read_bytes() == whole.model_file.read_bytes()
    assert lines(broken) == lines(whole)
    assert len(resumed.seen) == 30 - stop, "no step is done twice"


def test_steps_after_the_last_state_are_done_again(tmp_path):
    """As after SIGKILL: metrics may be ahead of the state."""
    whole = new_run(tmp_path / "whole")
    unbroken, _ = train(whole)

    class Killed(Exception):
        pass

    def kill(step):
        if step == 13:
            raise Killed

    broken = new_run(tmp_path / "broken")
    with pytest.raises(Interrupted):
        train(broken, LinearFit(at_step=lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None))
    with pytest.raises(Killed):
        train(broken, LinearFit(at_step=kill))
    assert lines(broken)[-1]["step"] == 12
    train(broken)
    assert lines(broken) == lines(whole)
    assert broken.model_file.read_bytes() == whole.model_file.read_bytes()


def test_a_finished_run_is_left_as_it_is(tmp_path):
    run = new_run(tmp_path / "run")
    _, first = train(run)
    before = {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")}
    again, figures = train(run)
    assert again.seen == [] and figures == first
    assert {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")} == before, "make would do all that follows"


@contextmanager
def full_disk(free: int = 0):
    """No file of this process can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def at(steps: int, act):
    """A method that acts in the step of this number, counted from 1."""
    return LinearFit(at_step=lambda step: act() if step == steps - 1 else None)


@pytest.mark.parametrize("step, saved", [(1, 3), (2, 3), (10, 11), (28, 29), (29, 30), (30, 30)])
def test_metrics_that_cannot_be_written_end_the_training_with_all_saved(tmp_path, step, saved):
    whole = new_run(tmp_path / "whole")
    unbroken, _ = train(whole)
    run = new_run(tmp_path / "run")

    def fill():
        if run.metrics_file.exists():
            run.metrics_file.rename(tmp_path / "metrics")
        run.metrics_file.symlink_to("/dev/full")

    with pytest.raises(MlcliError, match="metrics.jsonl: cannot be written: No space left on device; ") as ended:
        train(run, at(step, fill))
    assert run.load_state()["step"] == saved and run.model_file.exists() == (saved == 30)
    assert "--resume" in str(ended.value) or saved == 30
    run.metrics_file.unlink()
    if (tmp_path / "metrics").exists():
        (tmp_path / "metrics").rename(run.metrics_file)
    resumed, figures = train(run)
    assert lines(run) == lines(whole) and figures["slope"] == unbroken.network.weight.item()
    assert run.model_file.read_bytes() == whole.model_file.read_bytes()


@pytest.mark.parametrize("step", [3, 10, 30])
def test_samples_that_cannot_be_written_end_it_with_all_saved(tmp_path, step):
    run = new_run(tmp_path / "run")
    run.samples_folder.write_text("in the way")
    with pytest.raises(MlcliError, match="samples/fit-.*: cannot be written: .*"):
        train(run, sample_every=step)
    assert run.load_state()["step"] == min(step + 1, 30)
    assert run.model_file.exists() == (step == 30)


def test_a_report_that_cannot_be_written_ends_it_with_all_saved(tmp_path):
    run = new_run(tmp_path / "run")

    def report(progress):
        if progress.event == "epoch":
            raise MlcliError("report.html: cannot be written")

    with pytest.raises(MlcliError, match="report.html: cannot be written. All is saved after step 6; "):
        fit(LinearFit(), plan(), run, Processes(CPU), report=report)
    train(run)
    assert len([line for line in lines(run) if "slope" in line]) == 6


@pytest.mark.parametrize("free", [0, 40, 200])
def test_a_full_disk_keeps_the_last_state_and_no_half_lines(tmp_path, free):
    whole = new_run(tmp_path / "whole")
    train(whole, save_every=0)
    run, stack = new_run(tmp_path / "run"), ExitStack()

    def fill():
        stack.enter_context(full_disk(run.metrics_file.stat().st_size + free))

    with stack, pytest.raises(MlcliError, match="cannot be written: File too large"):
        train(run, at(8, fill), save_every=0)
    assert run.load_state()["step"] == 7 and run.metrics_file.read_text().endswith("}\n")
    train(run, save_every=0)
    assert lines(run) == lines(whole) and run.model_file.read_bytes() == whole.model_file.read_bytes()


def test_figures_are_measured_when_the_plan_says(tmp_path):
    run = new_run(tmp_path / "run")
    train(run, evaluate_every=7)
    assert [line["step"] for line in lines(run) if "slope" in line] == [7, 14, 21, 28, 30]
    assert [int(file.stem[-8:]) for file in sorted(run.samples_folder.iterdir())] == [5, 10, 15, 20, 25, 30]


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(new_run(tmp_path / "run"), epochs=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_metrics_are_strict_json(tmp_path):
    run = new_run(tmp_path / "run")
    run.log(1, {"loss": float("inf"), "other": torch.tensor(2.0)})
    assert json.loads(run.metrics_file.read_text()) == {"step": 1, "loss": None, "other": 2.0}


def test_samples_every_so_many_steps_and_at_the_end(tmp_path):
    run = new_run(tmp_path / "run")
    train(run, sample_every=8)
    assert sorted(int(file.stem[-8:]) for file in run.samples_folder.iterdir()) == [8, 16, 24, 30]


def test_a_warning_names_the_files_of_the_last_batch(tmp_path):
    class Warns(LinearFit):
        def warning(self, values):
            return "all is lost" if len(self.seen) == 4 else ""

    events = []
    fit(Warns(), plan(epochs=1), new_run(tmp_path / "run"), Processes(CPU), report=events.append)
    (warning,) = [event for event in events if event.event == "warning"]
    assert warning.step == 4 and warning.note.startswith("step 4: all is lost. The last batch was ")
    assert all(f"{index}.png" in warning.note for index in plan().indices(3).tolist())

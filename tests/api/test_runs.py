"""What surrounds a training: when its report is written."""

import os
import signal
from types import SimpleNamespace

import pytest

from mlcli.api import run_reports, runs
from mlcli.errors import Interrupted
from mlcli.runtime.processes import Processes
from tests.linear_fit import CPU, LinearFit, new_run, plan


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless a test sets `now`."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_the_report_takes_a_twentieth_of_the_time(tmp_path, monkeypatch, clock):
    """An epoch of five steps takes 1 s, and a report 0.2 s: one is due after 5 s, and 4 s after the one before it."""
    written = []

    def write(run):
        written.append(run.metrics()[-1]["step"])
        clock.now += 0.2

    def step(number):
        clock.now += 0.2

    monkeypatch.setattr(run_reports, "write", write)
    runs.fit(new_run(tmp_path / "run"), LinearFit(at_step=step), plan(epochs=9), Processes(CPU))
    assert written == [25, 45], "after five seconds, and at the end"


def test_an_interrupted_training_has_a_report_of_what_was_done(tmp_path, monkeypatch, clock):
    written = []

    def step(number):
        if number == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run_reports, "write", lambda run: written.append(run.metrics()[-1]["step"]))
    with pytest.raises(Interrupted, match="after step 13"):
        runs.fit(new_run(tmp_path / "run"), LinearFit(at_step=step), plan(), Processes(CPU))
    assert written == [12]

import csv
import io
import os
import pty
import termios
from contextlib import contextmanager

import pytest

from mlcli.commands import _report
from mlcli.commands._report import Progress, csv_text, table


def written(cell) -> str:
    header, row = csv.reader(io.StringIO(csv_text(("a", "b"), [(cell, "")]), newline=""))
    return row[0]


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠"])
def test_a_name_that_a_spreadsheet_would_run_is_text(first):
    for name in (f"{first}1+cmd|' /C calc'!A0", f'{first}HYPERLINK("http://x","a,b")', first, f"{first}.png"):
        assert written(name) == f"'{name}"
        assert csv_text((name,), []).lstrip('"').startswith("'")


@pytest.mark.parametrize("name", ["a=b.png", "a\rb", "a\nb", 'a,"b', "a-1.png", "", "'quoted'", "photos/=1.png", " =1"])
def test_other_names_stay(name):
    assert written(name) == name


@pytest.mark.parametrize("number", [-1, -0.25, -1e-9, 3, float("-inf"), "-1", "-0.25", "+1.5e-9", "-.5", "-3."])
def test_numbers_stay(number):
    assert written(number) == str(number)


def test_nothing_is_an_empty_cell():
    assert written(None) == ""


@contextmanager
def terminal(rows, columns):
    """A terminal of this size: a file to write to, and what was written."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (rows, columns))
    with open(theirs, "w") as stream:
        yield stream, lambda: (stream.flush(), os.read(ours, 4096).decode())[1]
    os.close(ours)


@pytest.mark.parametrize("path", ["out", "/home/somebody/experiments/2026/" + "a" * 80 + "/out"])
def test_a_long_path_leaves_room_for_the_bar(path, monkeypatch):
    with terminal(24, 80) as (stream, seen):
        monkeypatch.setattr("sys.stderr", stream)
        with Progress(10, path) as bar:
            bar.to(5)
        text = seen()
    assert "%|" in text and "out:" in text


def test_a_terminal_without_a_size_gets_lines_and_no_bar(monkeypatch):
    with terminal(0, 0) as (stream, seen):
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr("sys.stdout", stream)
        with Progress(10, "out") as bar:
            bar.to(5, "loss 1", always=True)
        assert seen().startswith("out 5/10, ")
        stream.write(table(("name", "value"), [("a" * 30, "b" * 30)]))
        assert "a" * 30 in seen()


FIRST_SECONDS = Progress.FIRST_SECONDS  # before it is put off for all tests, in conftest.py


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, which a test sets."""
    clock = Clock()
    monkeypatch.setattr(_report, "time", clock)
    monkeypatch.setattr(Progress, "FIRST_SECONDS", FIRST_SECONDS)
    return clock


def logged(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_log_says_the_total_soon_and_then_rate_and_time_left(clock, capsys):
    with Progress(1000, "photos") as bar:
        bar.to(1)
        assert logged(capsys) == []
        clock.now += 4
        bar.to(8)
        assert logged(capsys) == ["photos 8/1000, 2/s, 8:16 left"]
        clock.now += 20
        bar.to(90)
        assert logged(capsys) == []
        clock.now += 16
        bar.to(100, "loss 0.5")
        assert logged(capsys) == ["photos 100/1000, 2.5/s, 6:00 left  loss 0.5"]
        bar.to(1000, always=True)
        assert logged(capsys) == ["photos 1000/1000, 25/s"]


def test_what_was_done_before_is_no_part_of_the_rate(clock, capsys):
    for begin in (lambda: Progress(100, "run", start=90), lambda: Progress(100, "run")):
        with begin() as bar:
            bar.resumed(90)
            bar.to(90, always=True)
            clock.now += 8
            bar.to(92, always=True)
        assert logged(capsys) == ["run 90/100", "run 92/100, 4 s each, 0:32 left"]


def test_short_work_and_quiet_work_say_nothing(clock, capsys):
    for quiet, seconds in ((False, 1), (True, 100)):
        with Progress(10, "out", quiet=quiet) as bar:
            clock.now += seconds
            bar.to(10)
    assert logged(capsys) == []


def test_work_without_a_total_has_a_rate_alone(clock, capsys):
    with Progress(None, "probes") as bar:
        clock.now += 10
        bar.to(20)
    assert logged(capsys) == ["probes 20, 2/s"]


@pytest.mark.parametrize("seconds, words", [(4.6, "0:05"), (760, "12:40"), (97500, "27:05:00")])
def test_durations(seconds, words):
    assert _report._duration(seconds) == words

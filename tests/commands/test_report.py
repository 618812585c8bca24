import csv
import io
import os
import pty
import termios

import pytest

from mlcli.commands._report import Progress, csv_text


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


@pytest.mark.parametrize("path", ["out", "/home/somebody/experiments/2026/" + "a" * 80 + "/out"])
def test_a_long_path_leaves_room_for_the_bar(path, monkeypatch):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with Progress(10, path) as bar:
            bar.to(5)
        seen = os.read(ours, 4096).decode()
    os.close(ours)
    assert "%|" in seen and "out:" in seen

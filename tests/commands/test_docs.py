import subprocess
import sys

import pytest

from mlcli.api.read_docs import FOLDER
from mlcli.commands import _report
from tests.cli import mlcli
from tests.docs.regenerate import PAGES


def test_a_page_in_a_pipe_is_its_file():
    assert mlcli("docs", "train").stdout == (FOLDER / "train.md").read_text("utf-8")
    guide = "run-folders-resume-and-cron"
    assert mlcli("docs", guide).stdout == (FOLDER / f"guides/{guide}.md").read_text("utf-8")


def test_all_pages_are_listed_with_their_first_sentences():
    lines = [" ".join(line.split()) for line in mlcli("docs").stdout.splitlines()]
    assert "stylize command Paints photographs in the style of another image." in lines
    assert {page.stem for page in PAGES} <= {line.split()[0] for line in lines if line}
    guides = [line.split()[0] for line in lines if " guide " in line]
    assert guides == sorted(page.stem for page in PAGES if page.parent.name == "guides") and "several-gpus" in guides


@pytest.mark.parametrize("wanted, near", [("stilize", "stylize"), ("several-gpu", "several-gpus"), ("Train", "train")])
def test_a_page_that_there_is_not(wanted, near):
    said = mlcli("docs", wanted, status=2).stderr
    assert f"{wanted}: no such page; did you mean {near}" in said and "`mlcli docs` lists all" in said


def test_a_page_on_a_terminal_is_formatted(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = "# Title\n\n<!-- a comment -->\n\nA [link](x.md).\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    shown = _report.markdown(text)
    assert "# Title" not in shown and "<!--" not in shown and "| --- |" not in shown
    assert "Title" in shown and "x.md" in shown and "─" in shown


def test_the_pages_are_read_without_torch():
    code = "import sys, mlcli; mlcli.read_docs('train'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

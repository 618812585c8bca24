"""Two processes over one output: the second is told who is at work, before it reads anything, and changes nothing."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from mlcli.io import locks
from tests.cli import ENVIRONMENT, mlcli
from tests.outputs import FOLDERS, TRAINING


def tree(folder) -> list:
    return sorted((str(file), file.stat().st_mtime_ns) for file in folder.rglob("*"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder d of two images, and out, in which somebody works; what is read before that is seen is an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mlcli", "of-the-test"])
    (tmp_path / "d").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8)).save(f"d/{name}.png")
    (tmp_path / "out").mkdir()
    return tmp_path


def refused(here, words, *, busy="out"):
    before = tree(here)
    told = mlcli(*words, status=1).stderr
    assert f"{busy}: `mlcli " in told and f"process {os.getpid()} on " in told and "wait until it has ended" in told
    assert tree(here) == before


@pytest.mark.parametrize("how", [[], ["--resume"], ["--overwrite"]])
@pytest.mark.parametrize("command", TRAINING)
def test_a_run_folder_is_one_process_own(here, command, how):
    words = [command, *(word.replace("d", "absent") if word == "d" else word for word in TRAINING[command])]
    with locks.folder_locked("out", run=True):
        refused(here, [*words, "-o", "out", *how])
    assert "absent" in mlcli(*words, "-o", "out", *how, status=1).stderr
    assert list((here / "out").iterdir()) == [], "and what failed leaves nothing"


@pytest.mark.parametrize("command, words", [*FOLDERS.items(), ("sample", ["run"])])
def test_a_folder_of_results_is_one_process_own(here, command, words):
    with locks.folder_locked("out"):
        for how in ([], ["--overwrite"]):
            refused(here, [command, *words, "-o", "out", *how])


def test_one_painting_is_one_process_own_and_others_beside_it_are_not(here):
    quick = ["--scales", "16", "--steps", "1", "-q"]
    with locks.file_locked("out/a.png"):
        refused(here, ["stylize", "d/a.png", "--style", "d/b.png", "-o", "out/a.png", *quick], busy="out/a.png")
        refused(here, ["stylize", "d/a.png", "--style", "d/b.png", "-o", "out", *quick], busy="out/a.png")
        mlcli("stylize", "d/b.png", "--style", "d/b.png", "-o", "out", *quick)
        told = mlcli("stylize", "d", "--style", "d/b.png", "-o", "out", *quick, "--overwrite", status=1).stderr
        assert "out/a.png: `mlcli " in told
    assert sorted(os.listdir("out")) == ["b.png", "b.png.json"]


def test_a_part_of_a_run_at_work_is_no_run_of_its_own(here):
    with locks.folder_locked("out", run=True):
        for part in ("out/baseline", "out/seed-0/source"):
            refused(here, ["train", "d", "-o", part], busy=str(here / "out"))
    with locks.folder_locked("out/seed-0/source", run=True):
        refused(here, ["adapt", "--method", "adda", "d", "d", "-o", "out"], busy="out/seed-0/source")


def test_an_index_is_brought_in_step_by_one_process_and_read_by_all(here, colors):
    words = ["neighbors", "d/a.png", "--among", "d", "--model", colors, "--index", "index", "-q", "-o"]
    with locks.file_locked("index"):
        refused(here, [*words, "out/a.png"], busy="index")
    mlcli(*words, "out/a.png")
    with locks.file_locked("index"):
        mlcli(*words, "out/b.png")
        Image.new("RGB", (8, 8)).save("d/c.png")
        refused(here, [*words, "out/c.png"], busy="index")


@pytest.mark.parametrize("command", ["pairs", "render", "atlas", "patches"])
def test_what_a_kill_at_the_start_left_blocks_nobody(here, command):
    for folder in (here / "out", here / "out" / "A", here / "out" / "0"):
        folder.mkdir(exist_ok=True)
        (folder / ".mlcli-1-ab.png").write_bytes(b"half")
    (here / "out" / locks.FOLDER_LOCK).write_text("{}")
    more = {"render": ["-n", "12"], "atlas": ["--units", "0", "--steps", "1"], "patches": ["--units", "0"]}
    more["patches"] += ["--layer", "conv1", "--model", "cifarnet"]
    more["atlas"] += ["--layer", "conv1", "--model", "cifarnet", "--size", "16"]
    mlcli(command, *FOLDERS[command], "-o", "out", "-q", *more.get(command, []))
    left = [file for file in (here / "out").rglob(".mlcli*")]
    written = {file.parent for file in (here / "out").rglob("*") if file.is_file()} - {file.parent for file in left}
    assert here / "out" in written, "where something is written, what was left goes"


def test_again_and_again_with_kills_one_works_and_one_is_told(tmp_path):
    words = [sys.executable, "-m", "tests.benchmarks.two_at_once", "train", "--count", "2", "--folder", tmp_path]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rounds" in done.stdout and "0 mismatches" in done.stdout and " 0 refused" not in done.stdout

"""Results that are written image by image: resumed after a kill, divided among processes and jobs, and merged."""

import json
import os
import re
import shlex
import signal
import sys
import time

import pytest

from mlcli.api import row_files
from mlcli.io import locks
from mlcli.methods.evaluation import classification
from tests import killing
from tests.cli import mlcli, status_of_main
from tests.forks import Fork, two_processes
from tests.tiny import class_folders

FORMATS = ("jsonl", "csv", "parquet")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder to work in, with ten images, one of them broken, in `images`."""
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "images", per_class=3)
    (tmp_path / "images" / "green" / "00a.png").write_bytes(b"")
    return tmp_path


def command(output, colors, *more):
    words = ("classify", "images", "--model", colors, "--batch-size", 4, "--top-k", 2, "-q")
    return (*words, "--format", output.partition(".")[2], "-o", output, *more)


def result(output, folder="."):
    """The bytes of a result and of its record."""
    return [open(os.path.join(folder, name), "rb").read() for name in (output, f"{output}.json")]


@pytest.fixture
def whole(world, colors):
    """The result of one unbroken process, by its format."""
    found = {}
    for format in FORMATS:
        assert "empty file" in mlcli(*command(f"whole.{format}", colors), status=1).stderr
        found[format] = result(f"whole.{format}")
    return found


def interrupt(*_):
    raise KeyboardInterrupt


def interrupted(monkeypatch, after):
    """Let the prediction of the batch of this number be interrupted."""
    predict, done = classification.predict, []

    def stops(*arguments, **more):
        done.append(1)
        if len(done) > after:
            raise KeyboardInterrupt
        return predict(*arguments, **more)

    monkeypatch.setattr(classification, "predict", stops)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_resumed_command_writes_the_same_bytes(after, format, whole, colors, monkeypatch):
    words = command(f"broken.{format}", colors)
    with monkeypatch.context() as patch:
        interrupted(patch, after)
        patch.setattr(row_files.RowFile, "finish", interrupt)  # after the last batch, which is not full
        mlcli(*words, status=130)
    said = mlcli(*words, status=2).stderr
    assert f"holds the first {min(4 * after, 10)} images" in said and "--resume resumes it" in said
    with monkeypatch.context() as patch:
        interrupted(patch, 3 - after)  # no more batches than are left
        mlcli(*words, "--resume", status=1)
    assert result(f"broken.{format}") == whole[format]
    with monkeypatch.context() as patch:
        interrupted(patch, 0)
        assert "complete already, 10 images" in mlcli(*words[:8], *words[9:], "--resume", status=1).stderr
    assert result(f"broken.{format}") == whole[format]
    assert sorted(name for name in os.listdir() if name.startswith("broken")) == [
        f"broken.{format}",
        f"broken.{format}.json",
    ]


def test_the_command_that_is_said_to_resume_does(whole, colors, monkeypatch, capsys):
    """Also where the interrupted one replaces a file, which a resumed one must not."""
    predict = classification.predict

    def signaled(*arguments, **more):
        os.kill(os.getpid(), signal.SIGINT)
        return predict(*arguments, **more)

    words = [str(word) for word in command("again.jsonl", colors, "--overwrite")]
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(classification, "predict", signaled)
            assert status_of_main(*words) == 130
        (advice,) = re.findall(r"images; (.*) resumes", capsys.readouterr().err)
        program, *words = shlex.split(advice)
        assert program == "mlcli"
    mlcli(*words, status=1)
    assert result("again.jsonl") == whole["jsonl"]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_command_killed_before_any_of_its_writes_resumes(format, whole, colors, monkeypatch):
    monkeypatch.setattr(row_files, "SECONDS", 0.0)
    words = [str(word) for word in command(f"killed.{format}", colors, "--resume", "--workers", 1)]
    status, operations = killing.ended(words)
    assert operations > 10
    assert os.waitstatus_to_exitcode(status) == 1 and result(f"killed.{format}") == whole[format]
    for operation in range(1, operations + 1, operations // 5):
        for name in os.listdir():
            if name.startswith("killed"):
                os.remove(name)
        assert os.waitstatus_to_exitcode(killing.ended(words, operation)[0]) == -signal.SIGKILL
        status, _ = killing.ended(words)
        assert os.waitstatus_to_exitcode(status) == 1
        assert result(f"killed.{format}") == whole[format], operation


def test_two_processes_write_what_one_writes(whole, colors):
    for format in ("jsonl", "parquet"):
        group = two_processes(*command(f"two.{format}", colors))
        assert [fork.status() for fork in group] == [1, 1]
        assert result(f"two.{format}") == whole[format]
        assert "empty file" in group[0].said() and not group[1].said()


def test_one_process_resumes_what_two_began(whole, colors):
    words = command("two.jsonl", colors, "--resume")
    group = two_processes(*words, "--workers", 1)
    while not os.path.exists("two.jsonl") and group[0].running():
        time.sleep(0.001)
    group[1].signal(signal.SIGKILL)
    assert group[0].status() == 1
    if not json.loads(open("two.jsonl.json").read())["complete"]:
        assert "another process of the group has ended" in group[0].said()
    mlcli(*words, status=1)
    assert result("two.jsonl") == whole["jsonl"]


@pytest.mark.parametrize("format", FORMATS)
def test_parts_make_the_whole(format, whole, colors):
    parts = []
    for number in (3, 1, 2):
        parts.append(f"part-{number}.{format}")
        mlcli(*command(parts[-1], colors, "--shard", f"{number}/3"), status=(0, 1))
    said = mlcli("merge", *parts, "-o", f"merged.{format}").stderr
    assert said == f"merged.{format}: 10 images, 1 error\n" and result(f"merged.{format}") == whole[format]
    if format == "jsonl":
        assert b"".join(result(part)[0] for part in sorted(parts)) == whole[format][0]
    assert "--overwrite" in mlcli("merge", *parts, "-o", f"merged.{format}", status=2).stderr
    said = mlcli("merge", *parts[:2], "-o", "other", status=1).stderr
    assert "1 part of 3 missing: 2/3" in said and not os.path.exists("other")
    said = mlcli("merge", *parts, parts[0], "-o", "other", status=1).stderr
    assert f"{parts[0]}: is part 3/3, and so is" in said
    assert "is no part" in mlcli("merge", f"whole.{format}", "-o", "other", status=1).stderr


def test_parts_that_do_not_fit_are_named(whole, colors, monkeypatch):
    mlcli(*command("part-1.jsonl", colors, "--shard", "1/2"))
    with monkeypatch.context() as patch:
        interrupted(patch, 1)
        mlcli(*command("part-2.jsonl", colors, "--shard", "2/2"), status=130)
    merge = ("merge", "part-1.jsonl", "part-2.jsonl", "-o", "merged.jsonl")
    said = mlcli(*merge, status=1).stderr
    assert "part-2.jsonl: part 2/2 is incomplete, with 4 images; run its command again with --resume" in said
    mlcli(*command("part-2.jsonl", colors, "--shard", "2/2", "--resume"), status=1)
    lines = open("part-1.jsonl").read()
    open("part-1.jsonl", "w").write(lines[:-9])
    assert "part-1.jsonl: part 1/2 has been changed" in mlcli(*merge, status=1).stderr
    open("part-1.jsonl", "w").write(lines)
    mlcli(*command("other.jsonl", colors, "--shard", "1/2", "--flip"))
    said = mlcli("merge", "other.jsonl", "part-2.jsonl", "-o", "merged.jsonl", status=1).stderr
    assert "is of another whole than other.jsonl: flip is True there, False here" in said
    os.remove("other.jsonl.json")
    assert "other.jsonl.json" in mlcli("merge", "other.jsonl", "-o", "merged.jsonl", status=1).stderr
    mlcli(*merge)
    assert result("merged.jsonl") == whole["jsonl"]


def test_more_parts_than_batches_are_empty(whole, colors):
    parts = []
    for number in range(1, 8):
        parts.append(f"part-{number}.csv")
        mlcli(*command(parts[-1], colors, "--shard", f"{number}/7"), status=(0, 1))
    mlcli("merge", *parts, "-o", "merged.csv")
    assert result("merged.csv") == whole["csv"]


def test_a_changed_list_is_refused(whole, colors, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        mlcli(*command("a.jsonl", colors), status=130)
    os.remove("images/red/00.png")
    said = mlcli(*command("a.jsonl", colors, "--resume"), status=2).stderr
    assert "the list of images has changed since it was begun (had 10, has 9)" in said and "--overwrite" in said
    said = mlcli(*command("a.jsonl", colors, "--resume", "--flip"), status=2).stderr
    assert "was begun with flip False, not True" in said
    mlcli(*command("a.jsonl", colors, "--overwrite"), status=1)
    assert len(open("a.jsonl").readlines()) == 10


def test_a_second_process_is_refused(world, colors):
    with locks.file_locked("a.csv"):
        fork = Fork(*command("a.csv", colors, "--resume"))
        assert fork.status() == 1 and "is working on it" in fork.said()
    assert not os.path.exists("a.csv.partial")


def test_rows_come_on_stdout_too(whole, colors):
    for format in ("jsonl", "csv"):
        words = [word for word in command(f"a.{format}", colors) if word not in ("-o", f"a.{format}")]
        assert mlcli(*words, status=1).stdout_bytes == whole[format][0]
        with open("log", "wb") as log:
            mlcli(*words, "-o", f"/dev/fd/{log.fileno()}", status=1)
        assert open("log", "rb").read() == whole[format][0]


@pytest.mark.parametrize(
    "options, told",
    [
        (("--resume",), "--resume: for results in csv, jsonl, parquet"),
        (("--shard", "1/2"), "--shard: for results in"),
        (("--format", "jsonl", "--resume"), "needs a file; name it with -o FILE"),
        (("--format", "parquet"), "needs a file"),
        (("--format", "jsonl", "-o", "a", "--resume", "--overwrite"), "take one of them"),
        (("--format", "jsonl", "-o", "a", "--shard", "0/3"), "from 1/16 to 16/16"),
        (("--format", "jsonl", "-o", "a", "--shard", "4/3"), "from 1/16 to 16/16"),
        (("--format", "jsonl", "-o", "/dev/null", "--resume"), "no regular file"),
        (("--format", "jsonl", "-o", "images"), "a folder; give the name of a file"),
        (("--evaluate", "--format", "jsonl"), "gives one result"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, told, world, colors):
    assert told in mlcli("classify", "images", "--model", colors, *options, status=2).stderr
    assert sorted(os.listdir()) == ["images"]


def test_parquet_without_pyarrow_says_what_to_install(world, colors, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in mlcli(*command("a.parquet", colors), status=2).stderr

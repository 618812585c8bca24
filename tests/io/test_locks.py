"""Locks: one process works, another is told who; a killed holder blocks nobody; nothing is left behind."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from mlcli.errors import BusyError, MlcliError
from mlcli.io import locks
from tests.cli import ENVIRONMENT

HOLD = "import sys, time; from mlcli.io import locks\nwith locks.{}(sys.argv[1]): print(flush=True); time.sleep(60)"


@contextlib.contextmanager
def other_process(path: Path, kind: str = "folder_locked"):
    """Another process that holds the lock."""
    words = [sys.executable, "-c", HOLD.format(kind), str(path), "of-the-test"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout.readline() == b"\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind, name", [("folder_locked", "run"), ("file_locked", "index"), ("file_locked", "n" * 255)])
def test_the_second_process_is_told_who_is_at_work(tmp_path, kind, name):
    path, lock = tmp_path / name, getattr(locks, kind)
    with other_process(path, kind) as process:
        with pytest.raises(BusyError) as told, lock(path):
            pass
        for words in (str(path), "of-the-test`", f"process {process.pid} on {socket.gethostname()}, since 20"):
            assert words in str(told.value)
        assert told.value.exit_status == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        with lock(path):
            pass
    assert [file for file in tmp_path.rglob("*") if not file.is_dir()] == [], "the lock of the killed one is gone too"


def test_a_lock_leaves_nothing_and_keeps_what_was_made(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mlcli", "train", "a folder"])
    with locks.folder_locked(tmp_path / "new" / "run"):
        assert locks.is_locked(tmp_path / "new" / "run")
        told = json.loads((tmp_path / "new" / "run" / locks.FOLDER_LOCK).read_text())
        assert told["pid"] == os.getpid() and told["command"] == "mlcli train 'a folder'"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError), locks.folder_locked(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "result").write_text("kept")
        raise ValueError
    assert [file.name for file in (tmp_path / "new" / "run").iterdir()] == ["result"]
    assert not locks.is_locked(tmp_path / "new" / "run")


def test_two_names_of_one_thing_have_one_lock(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "file-link").symlink_to("file")
    for one, other, lock in (
        (tmp_path / "run", tmp_path / "link", locks.folder_locked),
        (tmp_path / "run" / ".." / "run", tmp_path / "run", locks.folder_locked),
        (tmp_path / "file", tmp_path / "file-link", locks.file_locked),
    ):
        with lock(one), pytest.raises(BusyError), lock(other):
            pass
    with locks.file_locked(tmp_path / "one"), locks.file_locked(tmp_path / "other"), locks.folder_locked(tmp_path):
        pass


@pytest.mark.parametrize("part", ["baseline", "seed-0/source"])
def test_a_run_and_its_parts_are_not_worked_in_at_once(tmp_path, part):
    run = tmp_path / "run"
    for first, second in ((run, run / part), (run / part, run)):
        with locks.folder_locked(first, run=True), pytest.raises(BusyError), locks.folder_locked(second, run=True):
            pass
    # A folder of results is no run, nor is a run beside another a part of it
    with (
        locks.folder_locked(tmp_path),
        locks.folder_locked(run, run=True),
        locks.folder_locked(tmp_path / "b", run=True),
    ):
        pass


@pytest.mark.parametrize(
    "path, words", [("/dev/null/run", "a part of the path is a file"), ("n" * 300, "shorter name")]
)
def test_where_nothing_can_be_written(tmp_path, path, words):
    for lock in (locks.folder_locked, locks.file_locked):
        with pytest.raises(MlcliError, match=f"cannot be written: .*{words}"), lock(tmp_path / path):
            pass


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks"), NotImplementedError()])
def test_a_file_system_without_locks(tmp_path, monkeypatch, error):
    def acquire(self):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with locks.folder_locked(tmp_path / "run"):
        (tmp_path / "run" / "result").write_text("made")


def test_what_a_killed_process_of_another_user_left_is_taken_away(tmp_path, monkeypatch):
    lock = tmp_path / locks.FOLDER_LOCK
    lock.write_text("{}")
    before = lock.stat().st_ino
    monkeypatch.setattr(os, "access", lambda *_: False)
    (tmp_path / "keeps the number").hardlink_to(lock)
    with locks.folder_locked(tmp_path):
        assert lock.stat().st_ino != before


def test_a_holder_whose_words_cannot_be_read_holds_all_the_same(tmp_path):
    with locks.folder_locked(tmp_path):
        for words in ("", "[1]", '{"pid": 3}'):
            (tmp_path / locks.FOLDER_LOCK).write_text(words)
            with pytest.raises(BusyError, match="another process is working"), locks.folder_locked(tmp_path):
                pass

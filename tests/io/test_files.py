"""Atomic writes: whatever happens in the middle, what stood there stays."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlcli.errors import MlcliError
from mlcli.io import files, locks
from tests.powerless import permissions_hold

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir())


def test_success_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "deep" / "a.safetensors"
    for text in ("one", "two"):
        with files.atomic_write(path) as temporary:
            assert temporary.parent == path.parent and temporary.suffix == ".safetensors"
            assert temporary.name.startswith(".") and str(os.getpid()) in temporary.name
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
        assert names(path.parent) == ["a.safetensors"]


@pytest.mark.parametrize("flush", [True, False])
def test_the_disk_is_waited_for_where_asked(tmp_path, monkeypatch, flush):
    waited = []
    monkeypatch.setattr(files.os, "fsync", waited.append)
    files.write_bytes(tmp_path / "a", b"one", flush=flush)
    assert (tmp_path / "a").read_bytes() == b"one" and bool(waited) == flush


def test_who_is_reading_the_old_content_reads_it_to_its_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with open(path) as reader:
        files.write_text(path, "new")
        assert reader.read() == "old" and path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MlcliError])
def test_an_exception_keeps_the_old_content_and_passes_through(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error):
        with files.atomic_write(path) as temporary:
            temporary.write_text("half of the new")
            raise error("stop")
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_os_errors_name_the_path_and_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    for path, words in [
        (tmp_path, "directory; give the name of a file"),
        (tmp_path / "file" / "a.txt", "a part of the path is a file"),
        (tmp_path / ("n" * 300), "shorter name"),
    ]:
        with pytest.raises(MlcliError, match=words) as caught:
            files.write_text(path, "x")
        assert str(caught.value).startswith(f"{path}: cannot be written: ")
    with pytest.raises(MlcliError, match="nothing.txt: cannot be written"):
        with files.atomic_write(tmp_path / "nothing.txt"):
            pass  # the block writes no file


def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with permissions_hold(), pytest.raises(MlcliError, match="may write to"):
        files.write_text(tmp_path / "a.txt", "x")


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")
    files.write_text(path, "x")
    assert path.read_text() == "x"


def test_a_full_disk_keeps_the_old_content(tmp_path):
    path = tmp_path / "a.bin"
    path.write_text("old")
    code = (
        "import resource, sys; from mlcli.io import files; from mlcli.errors import MlcliError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.write_bytes(sys.argv[1], bytes(100_000))\n"
        "except MlcliError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith(f"{path}: cannot be written: File too large; the file-size limit")
    assert path.read_text() == "old" and names(tmp_path) == ["a.bin"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_devices_are_written_through_and_never_replaced(tmp_path):
    # First a pipe of our own: broken code that renames over it must not get at a device.
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(tmp_path / "pipe", "through")
    assert os.read(reader, 99) == b"through" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    with pytest.raises(MlcliError, match="/dev/full: cannot be written: No space left on device; make room"):
        files.write_text("/dev/full", "x" * 100_000)
    assert not os.path.isfile("/dev/full")
    code = "from mlcli.io import files; files.write_text('/dev/stdout', 'through')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT).stdout == b"through"


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
def test_an_open_descriptor_is_written_where_it_stands(tmp_path, mode):
    """A log that a shell has opened keeps its other lines."""
    (tmp_path / "log").write_bytes(b"old\n")
    with open(tmp_path / "log", mode, buffering=0) as log:
        log.write(b"before\n")
        files.check_writable(f"/dev/fd/{log.fileno()}")
        files.write_text(f"/dev/fd/{log.fileno()}", "here\n")
        log.write(b"after\n")
    text = (tmp_path / "log").read_text()
    assert text == ("old\n" if mode == "ab" else "") + "before\nhere\nafter\n" and names(tmp_path) == ["log"]


def test_a_reader_that_has_read_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    files.write_text(f"/dev/fd/{write}", "x" * 100_000)
    os.close(write)


def test_descriptors_that_cannot_be_written(tmp_path):
    with open(os.devnull, "rb") as reading, open(tmp_path / "closed", "wb") as file:
        closed = f"/dev/fd/{file.fileno()}"
        file.close()
        for path in (f"/dev/fd/{reading.fileno()}", closed, "/dev/fd/999"):
            for write in (files.check_writable, lambda path: files.write_text(path, "x")):
                with pytest.raises(MlcliError, match=f"^{path}: cannot be written: .*; it is not open for writing"):
                    write(path)
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(MlcliError, match="not of a folder"):
        files.write_text(f"/dev/fd/{folder}", "x")
    os.close(folder)
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(MlcliError, match="No space left on device; make room"):
        files.write_text(f"/dev/fd/{full}", "x")
    os.close(full)


def test_sigkill_in_the_middle_keeps_the_old_content(tmp_path):
    path = tmp_path / "a.bin"
    path.write_text("old")
    code = (
        "import sys, time; from mlcli.io import files\n"
        "with files.atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(bytes(5000)); print('half', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout.readline() == b"half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert path.read_text() == "old"
    files.write_text(path, "new")  # what the dead process left is in nobody's way
    assert path.read_text() == "new"


def test_the_umask_holds(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.txt").symlink_to("there/a.txt")
    files.write_text(tmp_path / "link.txt", "x")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "there" / "a.txt").read_text() == "x"


def test_json(tmp_path):
    path = tmp_path / "a.json"
    odd = os.fsdecode(b"caf\xe9.png")
    files.write_json(path, {"ü": [1, 2.5, math.nan, math.inf, None, True], "path": Path("a/b"), "t": (1, "猫")})
    text = path.read_text("utf-8")
    assert json.loads(text) == {"ü": [1, 2.5, None, None, None, True], "path": "a/b", "t": [1, "猫"]}
    assert "猫" in text and text.endswith("}\n")
    files.write_json(path, {"image": odd})
    assert json.loads(path.read_text("ascii")) == {"image": odd}


def test_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.file_hash(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")
    with pytest.raises(MlcliError, match="cannot be read"):
        files.file_hash(tmp_path / "none")


def test_where_a_file_can_be_written(tmp_path):
    files.check_writable(tmp_path / "new" / "file")
    files.check_writable("/dev/null")
    assert list(tmp_path.iterdir()) == []
    for path in ("/dev/null/file", tmp_path / ("n" * 300) / "file"):
        with pytest.raises(MlcliError, match="cannot be written: .*; "):
            files.check_writable(path)


def stale(folder: Path, name: str = "a.png") -> Path:
    """What a killed write leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{files.TEMPORARY}1-{name}"
    file.write_bytes(b"half")
    return file


def test_what_killed_writes_left_is_swept_and_what_the_living_write_is_not(tmp_path):
    left = [stale(tmp_path, name) for name in ("a.png", "b.png.state", "c")]
    elsewhere = stale(tmp_path / "elsewhere")
    other = (
        "import sys, time; from mlcli.io import files\n"
        "with files.atomic_write(sys.argv[1]) as temporary: print(temporary, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", other, tmp_path / "d"], stdout=subprocess.PIPE, cwd=ROOT) as process:
        written = Path(process.stdout.readline().decode().strip())
        assert not any(file.exists() for file in left), "the first write of a process sweeps"
        with files.atomic_write(tmp_path / "e") as temporary:
            for _ in range(2):
                files.sweep(tmp_path)
            assert written.exists() and temporary.exists()
            temporary.write_text("whole")
        process.kill()
    files.sweep(tmp_path)
    assert names(tmp_path) == ["e", "elsewhere"] and elsewhere.exists()
    files.sweep(tmp_path / "absent")


def test_locks_that_killed_processes_left_are_swept_and_held_ones_are_not(tmp_path):
    for name in (".mlcli.lock", ".mlcli.0123456789abcdef.lock"):
        (tmp_path / name).write_text("{}")
    with locks.file_locked(tmp_path / "index"):
        files.sweep(tmp_path)
        (held,) = tmp_path.iterdir()
        assert locks.held(held)


def test_a_temporary_file_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, swept = files.fcntl.flock, []

    def slow(descriptor, kind):
        if not swept:
            swept.extend(tmp_path.glob(f"{files.TEMPORARY}*"))
            swept[0].unlink()
        lock(descriptor, kind)

    monkeypatch.setattr(files.fcntl, "flock", slow)
    files.write_text(tmp_path / "a", "x")
    assert swept and names(tmp_path) == ["a"]


def test_a_disk_without_locks_is_written_to_and_never_swept(tmp_path, monkeypatch):
    def none(descriptor, kind):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", none)
    left = stale(tmp_path)
    files.write_text(tmp_path / "a", "x")
    assert names(tmp_path) == sorted([left.name, "a"])


def test_a_folder_with_what_killed_processes_left_is_vacant(tmp_path):
    stale(tmp_path / "one")
    stale(tmp_path / "one" / "units")
    (tmp_path / "one" / ".mlcli.lock").write_text("")
    (tmp_path / "one" / "empty").mkdir()
    assert files.is_vacant(tmp_path / "one")
    for name in ("a.png", ".mlcli", ".hidden"):
        (tmp_path / "one" / "empty" / name).write_text("")
        assert not files.is_vacant(tmp_path / "one")
        (tmp_path / "one" / "empty" / name).unlink()
    with pytest.raises(MlcliError, match="cannot be looked into"):
        files.is_vacant(tmp_path / "one" / ".mlcli.lock")


def test_a_folder_that_another_process_makes_or_removes_meanwhile(tmp_path, monkeypatch):
    folder, lexists, isdir = tmp_path / "made", os.path.lexists, os.path.isdir

    def made_meanwhile(path):
        Path(path).mkdir(exist_ok=True)
        return lexists(path)

    assert not files.is_no_folder(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "lexists", made_meanwhile)
        assert not files.is_no_folder(folder) and isdir(folder)
    assert files.is_vacant(tmp_path / "removed")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert files.is_no_folder(tmp_path / "file") and files.is_no_folder(tmp_path / "link")

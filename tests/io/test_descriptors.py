import os
import threading

import pytest

from mlcli.io.descriptors import Descriptor, descriptor_behind


@pytest.mark.parametrize(
    "path, number",
    [
        ("/dev/stdin", 0),
        ("/dev/stdout", 1),
        ("/dev/stderr", 2),
        ("/dev/fd/7", 7),
        ("/dev/../dev/fd/7", 7),
        ("/proc/self/fd/12", 12),
        ("/dev/null", None),
        ("/dev/fd/x", None),
        ("/dev/fd/99999999999", None),
        ("7", None),
        ("fd/7", None),
    ],
)
def test_paths_of_descriptors(path, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert descriptor_behind(path) == number


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no /proc")
def test_links_to_descriptors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.csv").symlink_to("/dev/stdout")
    (tmp_path / "linked.csv").symlink_to("out.csv")
    (tmp_path / "file.csv").symlink_to("other.csv")
    (tmp_path / "round").symlink_to("round")
    found = [descriptor_behind(name) for name in ("out.csv", "linked.csv", "file.csv", "round", "none")]
    assert found == [1, 1, None, None, None]
    assert descriptor_behind(f"/proc/{os.getppid()}/fd/1") is None  # of another process


def test_all_is_written_to_a_pipe_that_does_not_wait():
    read, write = os.pipe()
    os.set_blocking(write, False)
    text, received = os.urandom(1_000_000), []

    def reader():
        while len(part := os.read(read, 65536)):
            received.append(part)

    thread = threading.Thread(target=reader)
    thread.start()
    with Descriptor(write, closefd=True) as descriptor:
        assert descriptor.write(text) == len(text)
    thread.join()
    os.close(read)
    assert b"".join(received) == text


def test_it_is_written_where_it_stands_and_stays_open(tmp_path):
    with open(tmp_path / "log", "w+b", buffering=0) as file:
        file.write(b"before ")
        with Descriptor(file.fileno()) as descriptor:
            descriptor.write(b"here ")
        file.write(b"after")
    assert (tmp_path / "log").read_bytes() == b"before here after"

"""What cannot be written: messages are dropped and the work continues, results are errors, a missing stream is none."""

import errno
import os
import subprocess
import sys

import pytest

from mlcli.commands import _streams
from mlcli.errors import MlcliError
from tests.broken_streams import pipe_without_reader
from tests.cli import ENVIRONMENT
from tests.tiny import class_folders

# A process whose command writes in every way there is, and at last touches the file of its first argument
TALK = """
import logging, sys, warnings
from pathlib import Path
from mlcli import cli
from mlcli.commands import _report

def app(prog_name):
    print("printed", file=sys.stderr)
    _report.complain("complained")
    warnings.warn("warned")
    logging.warning("logged")
    with _report.Progress(3, "progress") as bar:
        bar.to(1, always=True)
        bar.line("a line")
    print("one", flush=True)
    _report.out("two\\n" * 50_000)
    print("three")
    Path(sys.argv[1]).touch()

cli.build = lambda wanted: app
cli.main()
"""


def talk(redirections: str, tmp_path) -> tuple[subprocess.CompletedProcess, bool]:
    """The process with its streams redirected as in a shell, and whether it came to its end."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" "$2" {redirections}', sys.executable, TALK, str(tmp_path / "end")],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    return done, (tmp_path / "end").exists()


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def of_a_closed_descriptor(kind):
    read, write = os.pipe()
    stream = kind(write)
    os.close(read)
    os.close(write)
    return stream


@pytest.mark.parametrize("make", [pipe_without_reader, full], ids=["reader-gone", "full"])
def test_a_message_that_cannot_be_written_is_dropped(make):
    stream = _streams.Messages(make())
    assert [stream.write(b"one"), stream.write(b"two")] == [3, 3]
    assert of_a_closed_descriptor(_streams.Messages).write(b"one") == 3


def test_a_reader_that_has_read_enough_is_no_error():
    stream = _streams.Results(pipe_without_reader())
    assert [stream.write(b"one"), stream.write(b"two")] == [3, 3] and stream.failed


@pytest.mark.parametrize("make", [lambda: _streams.Results(full()), lambda: of_a_closed_descriptor(_streams.Results)])
def test_a_result_that_cannot_be_written_is_an_error_once(make):
    stream = make()
    with pytest.raises(MlcliError, match="^standard output: cannot be written: .*; "):
        stream.write(b"one")
    assert stream.write(b"again, as Python does on its way out") == 36


def test_messages_that_can_be_written_are(tmp_path):
    done, ended = talk("", tmp_path)
    assert ended and done.returncode == 0 and done.stdout == "one\n" + "two\n" * 50_000 + "three\n"
    for words in ("printed", "mlcli: complained", "UserWarning: warned", "WARNING:root:logged", "progress 1/3", "line"):
        assert words in done.stderr


@pytest.mark.parametrize("redirections", ["2>/dev/full", "2>&-", "2>&- 0<&-", "2</dev/null", "2>&1 | true"])
def test_no_message_ends_the_work_or_gets_among_the_results(tmp_path, redirections):
    done, ended = talk(redirections, tmp_path)
    assert ended and done.returncode == 0 and done.stderr == ""
    if "|" not in redirections:
        assert done.stdout == "one\n" + "two\n" * 50_000 + "three\n"


@pytest.mark.parametrize(
    "redirections, status, said",
    [
        (">/dev/full", 1, errno.ENOSPC),
        ("1</dev/null", 1, errno.EBADF),
        (">&-", 0, None),
        (">&- 0<&- 2>&-", 0, None),
        (">/dev/full 2>&1", 1, None),
    ],
)
def test_results_that_cannot_be_written(tmp_path, redirections, status, said):
    done, ended = talk(redirections, tmp_path)
    assert done.returncode == status and done.stdout == "" and ended == (status == 0)
    last = f"mlcli: standard output: cannot be written: {os.strerror(said)}; " if said else ""
    assert done.stderr.count("standard output") == bool(said) and last in done.stderr
    assert "Exception ignored" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("number", range(3))
def test_no_file_takes_the_number_of_a_missing_stream(tmp_path, number):
    code = "import sys; from mlcli.commands import _streams; _streams.secure()\n"
    code += "with open(sys.argv[1], 'w') as file: file.write(str(file.fileno()))"
    shell = ["sh", "-c", f'"$0" -c "$1" "$2" {number}>&-', sys.executable, code, str(tmp_path / "number")]
    subprocess.run(shell, check=True, env=ENVIRONMENT)
    assert int((tmp_path / "number").read_text()) > 2


@pytest.mark.parametrize("arguments", ["--help", "--version", "classify --help"])
def test_help_that_cannot_be_written(arguments):
    command = f"{sys.executable} -m mlcli.cli {arguments}"
    shell = f"({command}; echo $? >&2) | true; {command} >/dev/full; echo $?; {command} >&-; echo $?"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout == "1\n0\n"
    quiet, said = done.stderr.splitlines()
    assert quiet == "0" and said.startswith("mlcli: standard output: cannot be written: No space left on device; ")


def test_training_goes_on_whatever_becomes_of_its_messages(tmp_path):
    class_folders(tmp_path / "data", per_class=4)
    command = [sys.executable, "-m", "tests.broken_streams", tmp_path, "train", tmp_path / "data", "--val", "0.25"]
    command += ["--epochs", "2", "--batch-size", "3", "--precision", "fp32", "--device", "cpu", "--model", "smallnet"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout.splitlines() == ["reader-gone 0", "full 0", "missing 0", "hung-up 0"], done.stderr
    models = {(tmp_path / line.split()[0] / "model.safetensors").read_bytes() for line in done.stdout.splitlines()}
    assert len(models) == 1

"""The README's exit statuses in every command, over the table of what can fail."""

import csv
import io
import os
import re
import resource
import shutil
import signal
import sys
from contextlib import contextmanager

import pytest
import typer

from mlcli import cli
from mlcli.commands import COMMANDS, _report, _streams
from mlcli.imaging import image_io, supervision
from mlcli.methods.learning import linear_head
from mlcli.reporting import diagnosis
from mlcli.training import run_folder
from tests import small_commands
from tests.broken_streams import pipe_without_reader
from tests.cli import mlcli, status_of_main
from tests.small_commands import SMALL

READING = [name for name, small in SMALL.items() if small.input]
WRITING = [name for name, small in SMALL.items() if small.makes]
TRAINING = [name for name, small in SMALL.items() if small.trains]
OF_RUNS = {"siamese-verify": "similarity", "translate": "translator", "sample": "generator", "segment": "segmenter"}
OF_RUNS |= {"pendulum-transfer": "policy"}
OPTIONS = {
    name: {option for parameter in command.params for option in parameter.opts}
    for name, command in typer.main.get_command(cli.build()).commands.items()
}
CHOSEN = ("--device", "--format", "--model", "--layer", "--precision", "--batch-size")
AGAIN = dict.fromkeys(("equivariance", "pendulum-transfer", "render"), ["--overwrite"])  # which cannot resume
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
PRINTING = [name for name, small in SMALL.items() if "--format" in OPTIONS[name] or not small.makes]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return small_commands.make(tmp_path_factory.mktemp("small"))


@pytest.fixture
def line(root, tmp_path):
    """The command line of a command by its name, with the output `tmp_path / "out" ENDING`."""

    def of(name, given=None, out=None):
        return SMALL[name].line(name, root, out or output(name, tmp_path), given)

    return of


@pytest.fixture(autouse=True)
def quick_doctor_and_finetune(monkeypatch):
    """How long networks take, and how well a layer is solved, have nothing to do with exit statuses."""
    monkeypatch.setattr(diagnosis, "forward_seconds", lambda *_: 1.0)
    monkeypatch.setattr(linear_head, "ITERATIONS", 10)


def output(name, tmp_path):
    return tmp_path / f"out{SMALL[name].ending}"


def one_line(stderr: str) -> str:
    (said,) = stderr.splitlines()
    assert said.startswith("mlcli: ")
    return said


def spoiled(source, target, most=None) -> list:
    """A copy of an image, or of a folder of images, of which so many files, or all, are none; they are listed."""
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    files = sorted(target.rglob("*.png")) if target.is_dir() else [target]
    for file in files[:most]:
        file.write_bytes(b"no image")
    return files[:most]


def test_the_table_has_every_command():
    assert list(SMALL) == [command.name for command in COMMANDS]


# ------------------------------------------------------------------------- 2: the command line was wrong


@pytest.mark.parametrize("name", [name for name, small in SMALL.items() if small.input or small.makes])
def test_2_where_something_is_missing_on_the_command_line(name):
    assert "Missing" in mlcli(name, status=2).stderr


@pytest.mark.parametrize("name", SMALL)
def test_2_for_an_option_that_there_is_not(name, line):
    assert "No such option" in mlcli(*line(name), "--nosuch", status=2).stderr


@pytest.mark.parametrize("name, option", [(name, o) for name in SMALL for o in CHOSEN if o in OPTIONS[name]])
def test_2_for_a_value_that_there_is_not(name, option, line, tmp_path):
    said = mlcli(*line(name), option, "nosuch", status=2).stderr
    assert (option in said or "nosuch" in said) and not output(name, tmp_path).exists()


@pytest.mark.parametrize("name", WRITING)
def test_2_where_something_stands_in_the_place_of_the_output(name, line, tmp_path):
    out = mine = output(name, tmp_path)
    if SMALL[name].makes != "file":
        out.mkdir()
        mine = out / "mine.txt"
    mine.write_text("mine")
    assert str(out) in one_line(mlcli(*line(name), status=2).stderr)
    assert mine.read_text() == "mine" and sorted(tmp_path.rglob("*")) == sorted({out, mine})


# -------------------------------------------------------- 1: something failed, is named; the rest is done


@pytest.mark.parametrize("name", READING)
def test_1_for_an_input_that_there_is_not(name, line, tmp_path):
    assert "nosuch" in mlcli(*line(name, tmp_path / "nosuch"), status=1).stderr


@pytest.mark.parametrize("name", READING)
def test_1_for_an_empty_input(name, line, root, tmp_path):
    given = tmp_path / "empty"
    given.mkdir() if (root / SMALL[name].input).is_dir() else given.touch()
    assert "empty" in mlcli(*line(name, given), status=1).stderr


@pytest.mark.parametrize("name", READING)
def test_1_where_nothing_can_be_read(name, line, root, tmp_path):
    files = spoiled(root / SMALL[name].input, tmp_path / "in")
    said = mlcli(*line(name, tmp_path / "in"), status=1).stderr
    assert str(files[0]) in said and all(part.startswith("mlcli: ") for part in said.splitlines()[:1])


@pytest.mark.parametrize("name", [name for name in READING if SMALL[name].input != "query"])
def test_an_image_that_cannot_be_read_is_named_and_the_rest_is_done(name, line, root, tmp_path):
    """1, but 0 of commands that train."""
    (bad,) = spoiled(root / SMALL[name].input, tmp_path / "in", 1)
    done = mlcli(*line(name, tmp_path / "in"), status=0 if name in TRAINING else 1)
    assert done.stderr.count(str(bad)) == 1
    printed = name in ("classify", "embed", "benchmark") and len(done.stdout.splitlines()) > 2
    assert output(name, tmp_path).exists() or printed


@pytest.mark.parametrize("name, run", OF_RUNS.items())
def test_1_for_a_run_that_there_is_not(name, run, line, root, tmp_path):
    words = [word.replace(str(root / run), str(tmp_path / "nosuch")) for word in line(name)]
    assert "nosuch" in one_line(mlcli(*words, status=1).stderr)


@pytest.mark.parametrize(
    "name", [name for name in SMALL if "--weights" in OPTIONS[name] and "--model" in SMALL[name].words]
)
def test_1_for_weights_that_there_are_not(name, line, tmp_path):
    assert "nosuch.pth" in one_line(mlcli(*line(name), "--weights", tmp_path / "nosuch.pth", status=1).stderr)


@pytest.mark.parametrize("name", WRITING)
def test_1_where_no_output_can_be(name, line, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / f"out{SMALL[name].ending}"
    said = one_line(mlcli(*line(name, out=out), status=1).stderr)
    assert "file" in said and (tmp_path / "file").read_text() == "mine"


@contextmanager
def full_disk(free=0):
    """No file of this process can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITING)
def test_1_where_the_disk_is_full(name, line, tmp_path):
    with full_disk(100):
        said = mlcli(*line(name), status=1).stderr
    assert "cannot be written: File too large; " in said or (name == "stylize" and "is the disk full?" in said)
    supervision.part()  # as the end of the process does
    supervision._parting.clear()
    files = [file for file in tmp_path.rglob("*") if file.is_file() and not file.name.startswith(".mlcli.")]
    assert not files, "neither half an output nor a temporary file"


@pytest.mark.parametrize("name", TRAINING)
def test_1_where_the_disk_is_full_when_metrics_are_logged_and_nothing_is_lost(name, line, tmp_path, monkeypatch):
    log = run_folder.Run.log
    more = ["--freeze", "conv5", "--epochs", 1] if name == "finetune" else []  # else it solves, and trains nothing

    def log_on_a_full_disk(run, step, values):
        size = run.metrics_file.stat().st_size if run.metrics_file.exists() else 0
        with full_disk(size):
            log(run, step, values)

    with monkeypatch.context() as patched:
        patched.setattr(run_folder.Run, "log", log_on_a_full_disk)
        said = mlcli(*line(name), *more, status=1).stderr.splitlines()
    assert [
        part for part in said if part.startswith("mlcli: ") and "metrics.jsonl: cannot be written: File too" in part
    ]
    mlcli(*line(name), *more, "--resume")
    mlcli(*line(name, out=tmp_path / "whole"), *more)
    for whole in (tmp_path / "whole").rglob("metrics.jsonl"):
        run = run_folder.Run(tmp_path / "out" / whole.parent.relative_to(tmp_path / "whole"))
        assert timeless(run.metrics()) == timeless(run_folder.Run(whole.parent).metrics())


def timeless(lines):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


# ------------------------------------------------------------------------------------------ what is printed


@pytest.fixture
def standard_output(monkeypatch):
    """Put another descriptor in the place of stdout, as the streams of a process are made."""

    def put(descriptor):
        monkeypatch.setattr(sys, "stdout", _streams._text(_streams.Results(descriptor), sys.__stdout__))

    return put


@pytest.mark.parametrize("name", PRINTING)
def test_1_for_a_result_that_cannot_be_written(name, line, tmp_path, standard_output, capsys):
    standard_output(os.open("/dev/full", os.O_WRONLY))
    assert status_of_main(*line(name)) == 1
    said = [part for part in capsys.readouterr().err.splitlines() if part.startswith("mlcli: ")]
    assert said[-1].startswith("mlcli: standard output: cannot be written: No space left on device; ")
    assert output(name, tmp_path).exists() == bool(SMALL[name].makes), "what goes to files is there"


@pytest.mark.parametrize("name", [name for name in PRINTING if name != "doctor"])
def test_0_for_a_reader_that_has_read_enough(name, line, standard_output, capsys):
    standard_output(pipe_without_reader())
    assert status_of_main(*line(name)) == 0
    assert "mlcli: " not in capsys.readouterr().err or name == "adapt"


@pytest.mark.parametrize("name", [name for name in SMALL if "--format" in OPTIONS[name]])
def test_csv_has_names_without_spaces_and_one_value_a_column(name, line, tmp_path):
    header, *rows = csv.reader(io.StringIO(mlcli(*line(name), "--format", "csv").stdout))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", column) for column in header), header
    assert len(set(header)) == len(header) and all(len(row) == len(header) for row in rows)
    assert not [cell for row in rows for cell in row if re.search(r"\d x \d|\d to \d|%", cell)]


# ----------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("number, status", SIGNALS)
@pytest.mark.parametrize("name", SMALL)
def test_a_signal_ends_the_work_and_the_same_command_goes_on(name, number, status, line, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        sent = signal_at_work(patched, number)
        assert status_of_main(*line(name)) == status and sent
    said = capsys.readouterr()
    assert (said.out == "" or name == "equivariance") and "Traceback" not in said.err  # which tells of what it has seen
    assert not list(tmp_path.rglob(".mlcli-*")), "no temporary file is left"
    if number == signal.SIGHUP and name != "doctor":
        resumes = "--resume" in OPTIONS[name] and "--shard" not in OPTIONS[name]  # not a table, which is no file
        mlcli(*line(name), *(["--resume"] if resumes else AGAIN.get(name, [])))


def signal_at_work(patched, number) -> list:
    """Send the signal once: at the first progress, or else before the first image or result is written."""
    sent = []

    def first(function):
        def act(*arguments, **options):
            if not sent:
                sent.append(number)
                os.kill(os.getpid(), number)
            return function(*arguments, **options)

        return act

    patched.setattr(_report.Progress, "to", first(_report.Progress.to))
    patched.setattr(image_io, "write", first(image_io.write))
    patched.setattr(sys.stdout, "flush", first(sys.stdout.flush))
    return sent

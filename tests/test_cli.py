import contextlib
import importlib
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import mlcli as package
from mlcli import cli
from mlcli.commands import COMMANDS
from mlcli.errors import Interrupted, MlcliError, UsageError, WeightsError, lost_peer
from tests.cli import ENVIRONMENT, mlcli, mlcli_process, status_of_main

ROOT = Path(package.__file__).parents[1]
HEAVY = ("torch", "torchvision", "numpy", "PIL", "tqdm", "torchmetrics", "matplotlib", "jinja2")


def test_help_shows_panels_and_an_example_of_each_command():
    shown = mlcli("--help", env={"COLUMNS": "200"}).stdout
    positions = [shown.index(f"─ {panel} ─") for panel in dict.fromkeys(command.panel for command in COMMANDS)]
    assert positions == sorted(positions)
    for command in COMMANDS:
        assert command.example in shown


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_has_help_with_an_example(command):
    for flag in ("--help", "-h"):
        shown = mlcli(command.name, flag, env={"COLUMNS": "200"}).stdout
        assert f"Example: {command.example}" in shown and "Usage: " in shown
    words = command.example.split()
    assert words[:2] == ["mlcli", command.name]
    for option in [word for word in words if word.startswith("-")]:
        assert re.search(rf"(^|\W){re.escape(option)}\W", shown), option


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_is_in_the_table_of_the_readme(command):
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"| [`{command.name}`](mlcli/docs/{command.name}.md) | " in readme


def test_no_arguments_show_the_help():
    assert "Look inside" in mlcli(status=2).output


def test_version():
    assert mlcli("--version").stdout == f"mlcli {package.__version__}\n"


@pytest.mark.parametrize("code", ["import mlcli", "import mlcli.cli; mlcli.cli.build()"])
def test_imports_are_light(code):
    code += f"; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "given, expected", [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_threads_without_work_sleep_unless_the_user_says_otherwise(given, expected):
    environment = {k: v for k, v in ENVIRONMENT.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} | given
    code = "import os, sys; from mlcli import cli; assert 'torch' not in sys.modules; sys.argv[1:] = ['--version']\n"
    code += "try: cli.main()\nexcept SystemExit: print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["mlcli", package.__version__, str(expected)]


def test_help_is_quick():
    """1.6 times what Typer and Rich alone take beside it: under 0.35 s wherever these take no more than 0.21 s.

    Beside it, for a slow processor and other work on it (two threads share a core) lengthen both equally.
    """
    seconds = {"help": 0.0, "alone": 0.0}
    commands = {"help": ["-m", "mlcli.cli", "--help"], "alone": ["-c", "import typer, typer.rich_utils"]}
    for _ in range(4):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *command], check=True, capture_output=True, env=ENVIRONMENT)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds[name] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds["help"] < 1.6 * seconds["alone"], seconds


def test_commands_that_are_only_listed_look_the_same():
    """As a process `--help` imports no command; here it imports them all."""
    for command in COMMANDS:
        module = importlib.import_module(f"mlcli.commands.{command.module}")
        assert cli.summary(command) == module.run.__doc__.strip().splitlines()[0]
    helps = [CliRunner().invoke(app, ["--help"]).stdout for app in (cli.build(), cli.build(""), cli.build("layers"))]
    assert helps[0] == helps[1] == helps[2] and "neighbors" in helps[0]


@pytest.mark.parametrize(
    "arguments, name",
    [
        ([], ""),
        (["--help"], ""),
        (["--version"], ""),
        (["classify", "a.png", "-q"], "classify"),
        (["-h", "gan"], "gan"),
    ],
)
def test_the_command_that_is_to_run(arguments, name, monkeypatch):
    assert cli.named(arguments) == name
    monkeypatch.setenv("_MLCLI_COMPLETE", "complete_bash")
    assert cli.named(arguments) is None


def test_completion():
    variables = {"_MLCLI_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": "mlcli "}
    offered = mlcli_process(env=variables).stdout.decode().split()
    assert offered == [command.name for command in COMMANDS]
    variables |= {"COMP_CWORD": "3", "COMP_WORDS": "mlcli classify --format "}
    assert mlcli_process(env=variables).stdout.decode().split() == ["table", "json", "csv", "jsonl", "parquet"]
    variables |= {"COMP_CWORD": "5", "COMP_WORDS": "mlcli classify -o . --model cifarn"}
    done = mlcli_process(env=variables)
    assert done.stdout.decode().split() == ["cifarnet"] and done.stderr == b""
    assert b"complete_bash" in mlcli_process(env={"_MLCLI_COMPLETE": "source_bash"}).stdout


def test_an_unknown_command_names_the_nearest():
    assert "classify" in mlcli("clasify", status=2).stderr


@pytest.mark.parametrize(
    "error, status",
    [(MlcliError("a\nb"), 1), (UsageError("a\nb"), 2), (Interrupted("a\nb", 2), 130), (Interrupted("a\nb", 15), 143)],
)
def test_errors_become_one_line_and_an_exit_status(error, status, capsys):
    def run():
        raise error

    with pytest.raises(typer.Exit) as left:
        cli.guarded(run)()
    assert left.value.exit_code == status
    assert capsys.readouterr() == ("", "mlcli: a\\nb\n")


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 40, 1 << 40)])
def test_memory_that_does_not_suffice_is_said(shape, capsys):
    import torch

    with pytest.raises(typer.Exit) as left:
        cli.guarded(lambda: torch.zeros(shape))()
    assert left.value.exit_code == 1 and "the memory does not suffice" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="inconsistent|shape|size"):
        cli.guarded(lambda: torch.zeros(2) @ torch.zeros(3))()


# Three processes of a group, of which one is killed when all have begun to work
GROUP = """
import os, signal, socket, sys, time
import torch, typer
from mlcli import cli
from mlcli.runtime.processes import Processes

@cli.guarded
def run():
    group = Processes(torch.device("cpu"))
    while True:
        group.mean(torch.ones(1))
        if group.rank == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

with socket.socket() as free:
    free.bind(("localhost", 0))
    os.environ |= {"WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
processes = []
for rank in range(3):
    if not (child := os.fork()):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        try:
            run()
        except typer.Exit as end:
            os._exit(end.exit_code)
        os._exit(99)
    processes.append(child)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in processes))
"""


@pytest.mark.parametrize("killed", [1, 2])
def test_a_process_whose_peer_was_killed_says_so_without_a_traceback(killed):
    command = [sys.executable, "-c", GROUP, str(killed)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    statuses = [1, 1, 1]
    statuses[killed] = -signal.SIGKILL
    assert done.stdout.split() == list(map(str, statuses)), done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("mlcli: another process of the group has")]
    assert len(said) == (1 if killed == 1 else 2) and "--resume" in said[0] and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words, processes, told",
    [
        ("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection closed by peer", "2", True),
        ("NCCL communicator was aborted on rank 1", "8", True),
        ("[enforce fail at gloo.cc] of one process alone", "1", False),
        ("mat1 and mat2 shapes cannot be multiplied", "2", False),
    ],
)
def test_what_says_that_a_peer_was_lost(words, processes, told, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", processes)
    assert lost_peer(RuntimeError(words)) == told and not lost_peer(ValueError(words))


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize("number, status", SIGNALS)
@pytest.mark.parametrize("kind", [RecursionError, ImportError, TypeError, WeightsError])
def test_a_signal_that_a_library_makes_another_error_of(number, status, kind, monkeypatch, capsys):
    @cli.guarded
    def run():
        try:
            os.kill(os.getpid(), number)
        except BaseException:
            raise kind("this is not so") from None

    def app(prog_name):
        try:
            run()
        except typer.Exit as end:
            raise SystemExit(end.exit_code) from None

    monkeypatch.setattr(cli, "build", lambda wanted: app)
    assert status_of_main() == status
    assert capsys.readouterr() == ("", "")


def test_an_error_without_a_signal_gets_out(monkeypatch):
    def app(prog_name):
        raise RecursionError

    monkeypatch.setattr(cli, "build", lambda wanted: app)
    with pytest.raises(RecursionError):
        status_of_main()


@pytest.mark.parametrize("number, status", SIGNALS)
def test_weights_whose_reading_a_signal_interrupted_are_not_damaged(number, status, monkeypatch, tmp_path, capsys):
    """safetensors makes a TypeError of it, in one of three readings that a signal meets."""

    def broken_off(*_):
        with contextlib.suppress(BaseException):
            os.kill(os.getpid(), number)
        raise TypeError("could not determine the shape of object type 'torch.storage.UntypedStorage'")

    (tmp_path / "some.safetensors").write_bytes(b"")
    monkeypatch.setattr("safetensors.safe_open", broken_off)
    assert status_of_main("layers", "--model", "cifarnet", "--weights", tmp_path / "some.safetensors") == status
    assert capsys.readouterr() == ("", "")


def test_the_module_runs_from_anywhere(tmp_path):
    done = mlcli_process("--version", cwd=tmp_path, env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.stdout.decode() == f"mlcli {package.__version__}\n"


@pytest.mark.parametrize(
    "words, status", [(["--version"], 0), (["nosuch"], 2), (["classify", "nosuch.png"], 1)], ids=lambda word: str(word)
)
def test_a_process_of_a_group_ends_before_its_libraries_do(words, status):
    """Their threads may abort there, which is simulated: `__cxa_atexit` calls `abort` at the end of C++."""
    code = "import ctypes, sys; libc = ctypes.CDLL(None); libc.__cxa_atexit(libc.abort, None, None); "
    code += f"from mlcli import cli; sys.argv = ['mlcli', *{words}]; cli.main()"
    for size, expected in (("1", -signal.SIGABRT), ("2", status)):
        environment = ENVIRONMENT | {"WORLD_SIZE": size, "RANK": "0"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.returncode == expected, done.stderr
        assert done.stdout or done.stderr

"""Commands in processes of their own that start at once: forks of a server that has imported everything.

Each process of the tests has one such server, started when it is first needed; a process from scratch would import
torch for some seconds. Sums are those of one thread, as in ENVIRONMENT.
"""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

from mlcli import cli
from tests.cli import ENVIRONMENT

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.everything_imported"])


class Fork:
    """A command at work in the folder of the tests at present. environment: variables beside those of the tests."""

    def __init__(self, *words: object, environment: Mapping[str, str] | None = None) -> None:
        self.words = [str(word) for word in words]
        self.kept = tempfile.TemporaryDirectory()
        self.messages = Path(self.kept.name) / "stderr"
        arguments = (self.words, str(self.messages), os.getcwd(), dict(environment or {}))
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with mock.patch.dict(os.environ, ENVIRONMENT | {"PYTHONPATH": path}):  # of the server, at the first fork
            self.process = SERVER.Process(target=run, args=arguments)
            self.process.start()

    def running(self) -> bool:
        return self.process.is_alive()

    def signal(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. Nothing happens where the command has ended."""
        if self.running():
            os.kill(self.process.pid, number)

    def status(self) -> int:
        """Wait for the end: the exit status, or -N after the signal N."""
        self.process.join()
        assert "Traceback" not in self.said(), self.said()
        return self.process.exitcode

    def said(self) -> str:
        """What it has written to stderr."""
        return self.messages.read_text() if self.messages.exists() else ""

    def succeed(self) -> "Fork":
        """Wait for the end, which must be a good one."""
        assert self.status() == 0, self.said()
        return self


def run(words: list[str], messages: str, folder: str, environment: dict[str, str]) -> None:
    """What a fork does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT), 2)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["mlcli", *words]
    cli.main()


def two_processes(*words: object) -> list[Fork]:
    """A command as two processes of one group, with the variables that torchrun sets."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [Fork(*words, environment=group | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]


def newest_state(run: Path) -> int:
    """The step of the newest state, -1 before the first; of a run that is made of several, the sum of theirs."""
    newest: dict[Path, int] = {}
    for file in run.rglob("state/step-*.pt"):
        newest[file.parent] = max(newest.get(file.parent, 0), int(file.name[5:13]))
    return sum(newest.values()) if newest else -1


def wait_for_state(run: Path, step: int, running: Callable[[], bool]) -> None:
    """Wait until a run has a state of this step or a later one, or its command no longer runs."""
    while newest_state(run) < step and running():
        time.sleep(0.004)

"""Commands killed at random times and resumed, in forks of a process that has imported everything."""

import importlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.forks import Fork, newest_state, two_processes, wait_for_state

IMPORTED = ("generation.pix2pix", "generation.cyclegan", "learning.finetuning", "learning.pretext")
IMPORTED += tuple(
    f"adaptation.{name}" for name in ("results", "adda", "dann", "self_ensembling", "simgan", "cycada", "seuda")
)


def killed_and_resumed(kills: int | Sequence[int], seed: int, folder: Path, *command: object) -> list[int]:
    """Run a training command to its end in FOLDER/whole; then in FOLDER/broken, with kills, and once to its end.

    kills: how many at random times, or after which steps. Returns the steps of the newest states after the kills.
    """
    whole, broken = folder / "whole", folder / "broken"
    Fork(*command, "-o", whole).succeed()
    chance, steps = random.Random(seed), []
    again = [*command, "-o", broken, "--resume", "--save-every", "0"]
    given = [None] * kills if isinstance(kills, int) else kills
    for attempt, step in enumerate(given):
        before, fork = newest_state(broken), Fork(*again)
        if step is not None or attempt % 3:  # the others are killed wherever their start has come to
            wait_for_state(broken, before + 1 if step is None else step, fork.running)
        if step is None:
            fork.process.join(chance.uniform(0, 0.15))
        fork.signal(signal.SIGKILL)
        fork.process.join()
        steps.append(newest_state(broken))
    Fork(*again).succeed()
    return steps


def killed_at(run: Path, step: int, *command: object) -> int:
    """Kill a command once its run has a state of this step or a later one; the step of its newest state."""
    fork = Fork(*command, "--save-every", 0)
    wait_for_state(run, step, fork.running)
    fork.signal(signal.SIGKILL)
    fork.process.join()
    return newest_state(run)


def killed_at_its_end(run: Path) -> None:
    """Make of a finished run one that was killed just before its config said so."""
    config = json.loads((run / "config.json").read_text())
    assert config.pop("finished")
    (run / "config.json").write_text(json.dumps(config))


def two_processes_killed_and_resumed(run: Path, step: int, *command: object) -> int:
    """The step of the newest state of a run of two processes when both were killed, `step` or later.

    It is then resumed to its end.
    """
    group = two_processes(*command, "--save-every", 0)
    wait_for_state(run, step, group[0].running)
    for fork in group:
        fork.signal(signal.SIGKILL)
    for fork in group:
        fork.process.join()
    reached = newest_state(run)
    for fork in two_processes(*command, "--save-every", 0, "--resume"):
        fork.succeed()
    return reached


WRITING = ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


def die_before(operation: int, tell: int) -> None:
    """Kill this process before its operation of this number that changes files, counted from 1; 0: never.

    tell: a descriptor that each operation writes a byte to.
    """
    done = 0

    def note(event: str, arguments: tuple) -> None:
        nonlocal done
        writes = event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & os.O_ACCMODE
        if writes or event in WRITING:
            done += 1
            if done == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            os.write(tell, b".")

    sys.addaudithook(note)


def ended(command: list[str], operation: int = 0) -> tuple[int, int]:
    """(status, operations) of a fork that runs the command, killed before its operation of this number."""
    listen, tell = os.pipe()
    number = child(command, lambda: die_before(operation, tell))
    os.close(tell)
    done = 0
    while some := os.read(listen, 1 << 16):
        done += len(some)
    os.close(listen)
    return os.waitpid(number, 0)[1], done


def child(command: list[str], first: Callable[[], None] = lambda: None) -> int:
    """The process number of a fork that calls `first` and runs the command."""
    if number := os.fork():
        return number
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["mlcli", *command]
        first()
        importlib.import_module("mlcli.cli").main()
    except SystemExit as done:
        os._exit(done.code or 0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(99)
    os._exit(0)


def import_all() -> None:
    """Import what forks are to have from the start."""
    for name in IMPORTED:
        importlib.import_module(f"mlcli.methods.{name}")

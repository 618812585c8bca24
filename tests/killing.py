"""Training commands killed at random times and resumed; run as a process of its own, which forks a child each.

    python -m tests.killing KILLS SEED FOLDER COMMAND...

Runs the command to its end in FOLDER/whole; then in FOLDER/broken, KILLS times until some step or time and once to
its end. KILLS as in @12,40 are the steps after which to kill, in place of random times. Prints the step of the newest
state after each kill. A fork of a process that has imported all costs no start.
"""

import contextlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cli import ENVIRONMENT

IMPORTED = ("generation.pix2pix", "generation.cyclegan", "learning.finetuning", "learning.pretext")
IMPORTED += tuple(f"adaptation.{name}" for name in ("results", "adda", "simgan", "cycada", "seuda"))


def killed_and_resumed(kills: int | Sequence[int], seed: int, folder: Path, *command) -> list[int]:
    """The steps of the newest states after the kills; FOLDER/whole and FOLDER/broken are the runs.

    kills: how many at random times, or after which steps.
    """
    if not isinstance(kills, int):
        kills = "@" + ",".join(map(str, kills))
    words = [sys.executable, "-m", "tests.killing", kills, seed, folder, *command]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def killed_at_its_end(run: Path) -> None:
    """Make of a finished run one that was killed just before its config said so."""
    config = json.loads((run / "config.json").read_text())
    assert config.pop("finished")
    (run / "config.json").write_text(json.dumps(config))


def newest_state(run: Path) -> int:
    """The step of the newest state, -1 before the first; of a run that is made of several, the sum of theirs."""
    newest: dict[Path, int] = {}
    for file in run.rglob("state/step-*.pt"):
        newest[file.parent] = max(newest.get(file.parent, 0), int(file.name[5:13]))
    return sum(newest.values()) if newest else -1


def family(number: int) -> list[int]:
    """A process and all that it started, which may be in groups of their own; by Linux's /proc."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            parent = int(file.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found = [number]
    for each in found:
        found += children.get(each, [])
    return found


def two_processes_killed_and_resumed(run: Path, step: int, *command) -> int:
    """The step of the newest state of a run under torchrun when all of its processes were killed, `step` or later.

    It is then resumed to its end.
    """
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "mlcli.cli"]
    launch += [*map(str, command), "--save-every", "0"]
    process = subprocess.Popen(launch, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True)
    while newest_state(run) < step and process.poll() is None:
        time.sleep(0.001)
    for number in family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()
    reached = newest_state(run)
    done = subprocess.run([*launch, "--resume"], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
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


def finished(number: int) -> bool:
    return os.waitpid(number, os.WNOHANG)[0] != 0


def main(kills: str, seed: str, folder: str, *command: str) -> None:
    whole, broken = Path(folder) / "whole", Path(folder) / "broken"
    _, status = os.waitpid(child([*command, "-o", str(whole)]), 0)
    assert status == 0, status
    chance, steps = random.Random(int(seed)), []
    again = [*command, "-o", str(broken), "--resume", "--save-every", "0"]
    given = [int(step) for step in kills[1:].split(",")] if kills.startswith("@") else [None] * int(kills)
    for attempt, step in enumerate(given):
        before, number = newest_state(broken), child(again)
        over = False
        if step is not None or attempt % 3:  # the others are killed wherever their start has come to
            while newest_state(broken) < (before + 1 if step is None else step) and not (over := finished(number)):
                time.sleep(0.001)
        end = time.monotonic() + (chance.uniform(0, 0.15) if step is None else 0)
        while time.monotonic() < end and not over:
            over = finished(number)
        if not over:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
        steps.append(newest_state(broken))
    _, status = os.waitpid(child(again), 0)
    assert status == 0, status
    print(*steps)


def import_all() -> None:
    """Import what forks are to have from the start."""
    for name in IMPORTED:
        importlib.import_module(f"mlcli.methods.{name}")


if __name__ == "__main__":
    import_all()
    main(*sys.argv[1:])

"""Two processes on one output at once, again and again, with kills: one works, one is told so, and nothing is lost.

    python -m tests.benchmarks.two_at_once [COMMAND...] [--count 50] [--seed 0] [--folder FOLDER]

Each round starts a command twice, at nearly the same time; and in half of the rounds kills the one that works, at a
random moment, upon which two more are started at once. One of two must end with status 0, the other with 1 and a
message that names the holder (or with 0 where it came when the work was done already). The result must equal that of
one process which nobody disturbed. Counts rounds, kills, refusals and what went wrong.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from tests import killing
from tests.benchmarks import kills
from tests.cli import ENVIRONMENT

NAMES = ("train", "finetune", "pretext", "siamese-train", "gan", "pix2pix", "cyclegan", "adda", "stylize")
NAMES += ("stylize-folder", "atlas", "pairs")
PAIRS = 400


class Pair(kills.Trial):
    """One command, started twice."""

    def start(self) -> tuple[int, Path]:
        """(process number, file of its messages) of a fork that runs the command."""
        os.chdir(self.folder)
        self.figures["started"] += 1
        messages = self.folder / f"messages-{self.figures['started']}"
        messages.touch()  # it may be killed before it writes any

        def redirect() -> None:
            os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT), 2)

        return killing.child(self.command, redirect), messages

    def two(self, kill: bool) -> bool:
        """Run two to their ends; whether one was killed meanwhile."""
        running = [self.start()]
        time.sleep(self.chance.choice((0, 0, 0.02, self.chance.uniform(0, self.seconds))))
        running.append(self.start())
        when = time.monotonic() + self.chance.uniform(0, self.seconds) if kill else float("inf")
        killed, statuses = 0, {}
        while len(statuses) < 2:
            for number, messages in running:
                if number not in statuses:
                    ended, status = os.waitpid(number, os.WNOHANG)
                    if ended:
                        statuses[number] = status
                        self.check(status, messages, number == killed)
            if time.monotonic() > when and (alive := [number for number, _ in running if number not in statuses]):
                killed, when = self.chance.choice(alive), float("inf")
                os.kill(killed, signal.SIGKILL)
            time.sleep(0.002)
        if not killed and 0 not in statuses.values():
            self.note("failures", f"statuses {sorted(statuses.values())}: nobody worked")
        return bool(killed)

    def check(self, status: int, messages: Path, killed: bool) -> None:
        """Whether one process ended as it should have."""
        told = messages.read_text()
        if status == 1 << 8 and "is working on it; wait until it has ended" in told:
            self.figures["refused"] += 1
        elif killed and status == signal.SIGKILL:
            self.figures["kills"] += 1
        elif status:
            self.note("failures", f"status {status}: {told[-500:]}")
        messages.unlink()

    def round(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        if self.two(kill=self.figures["rounds"] % 2 == 1):
            self.two(kill=False)
        self.figures["rounds"] += 1
        now = kills.content(self.out)
        differing = sorted(name for name in now.keys() | self.whole.keys() if now.get(name) != self.whole.get(name))
        if differing:
            self.note("mismatches", f"{differing}")
        if left := [file.name for file in self.out.rglob(".mlcli*")]:
            self.note("left", f"{left}")

    def line(self) -> str:
        names = ("rounds", "kills", "refused", "mismatches", "failures", "left")
        return f"{self.name:16}" + "".join(f"  {self.figures[name]:4} {name}" for name in names)


def main() -> None:
    given = kills.parsed(__doc__, NAMES, 50, "rounds")
    killing.import_all()
    wrong: Counter[str] = Counter()
    for name in given.commands:
        folder = kills.prepared(given.folder / name)
        if name == "pairs":  # as many images as take longer than a second process waits for the lock
            for number in range(3, PAIRS):
                shutil.copy(folder / f"styles/{number % 3}.png", folder / f"styles/{number}.png")
        pair = Pair(name, folder, random.Random(f"{given.seed} {name}"))
        for _ in range(given.count):
            pair.round()
        print(pair.line(), flush=True)
        if given.count >= 10 and not pair.figures["refused"]:
            pair.note("failures", "no second process was ever refused")
        wrong.update({what: pair.figures[what] for what in ("mismatches", "failures", "left")})
    sys.exit(any(wrong.values()))


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # forks of a process with threads hang
        os.execve(sys.executable, sys.orig_argv, ENVIRONMENT)
    main()

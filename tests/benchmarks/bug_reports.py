"""Situations from bug reports against tools of the same jobs, each tried on tiny inputs that are made here.

python -m tests.benchmarks.bug_reports [--only TEXT] [--keep FOLDER]

Each runs the commands as a user does, in processes of their own, and looks at exit status, messages and files. Prints
a line for each situation, and those that are left again at the end; ends 1 where one is left. Some need a minute.
"""

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from mlcli import cli

SITUATIONS: list[tuple[str, str, Callable]] = []
ROOT = Path(__file__).parents[2]
SMALL = ("--epochs", 1, "--batch-size", 4, "--size", 16)


class NotTried(Exception):
    """Something that a situation needs is not here."""


class Done(NamedTuple):
    """How a process ended. mebibytes: of its memory at most. status 124: it was killed after its time."""

    status: int
    out: str
    err: str
    seconds: float
    mebibytes: int


def situation(section: str, told: str) -> Callable:
    def keep(function: Callable) -> Callable:
        SITUATIONS.append((section, told, function))
        return function

    return keep


def begin(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=None, before=None):
    """A process of mlcli that runs."""
    command = [sys.executable, "-m", "mlcli.cli", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.Popen(
        command, stdout=stdout, stderr=stderr, stdin=stdin, env=environment, preexec_fn=before, start_new_session=True
    )


def forked(words: tuple, stdin, out, err, env: dict) -> int:
    """The process number of a fork of this process, which has imported all: a command without its seconds of start."""
    if number := os.fork():
        return number
    status = 99
    try:
        os.setsid()
        given = os.open(os.devnull, os.O_RDONLY) if stdin in (None, subprocess.DEVNULL) else stdin.fileno()
        for descriptor, stream in ((given, 0), (out.fileno(), 1), (err.fileno(), 2)):
            os.dup2(descriptor, stream)
        sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in enumerate(("r", "w", "w")))
        os.environ.update(env)
        sys.argv = ["mlcli", *map(str, words)]
        cli.main()
        status = 0
    except SystemExit as done:
        status = done.code or 0
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def run(*words, given: bytes | None = None, seconds: float = 300, stdout=None, stderr=None, **more) -> Done:
    """A command to its end, which must not be a traceback. given: what it reads on stdin."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as read:
        if given is not None:
            read.write(given)
            read.seek(0)
            more["stdin"] = read
        began, process = time.monotonic(), None
        if stdout is None and stderr is None and "before" not in more:
            number = forked(words, more.get("stdin"), out, err, more.get("env") or {})
        else:  # streams that are missing or broken are met as Python starts
            chosen = {"stdout": out if stdout is None else stdout, "stderr": err if stderr is None else stderr}
            process = begin(*words, **chosen, **more)
            number = process.pid
        ended = 0
        while not ended and time.monotonic() - began < seconds:
            ended, status, usage = os.wait4(number, os.WNOHANG)
            time.sleep(0.02)
        if not ended:
            os.killpg(number, signal.SIGKILL)
            _, status, usage = os.wait4(number, 0)
        returned = 124 if not ended else os.waitstatus_to_exitcode(status)
        if process is not None:
            process.returncode = returned
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
        assert "Traceback" not in texts[0] + texts[1], texts[1][-1500:]
        return Done(returned, *texts, time.monotonic() - began, usage.ru_maxrss >> 10)


def expect(done: Done, status: int, *words: str) -> Done:
    """The process, whose status and words on stderr must be these."""
    assert done.status == status, f"status {done.status}, not {status}: {done.err[-600:]}"
    for each in words:
        assert each in done.err, f"{each!r} is not said: {done.err[-600:]}"
    return done


def image(file: Path, seed: int = 0, size: int = 32, mode: str = "RGB", **options) -> Path:
    """A file of a random image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": 3, "RGBA": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze() if channels == 1 else pixels).convert(mode).save(file, **options)
    return file


def data(root: Path, classes=("cat", "ship"), each: int = 10, size: int = 32) -> Path:
    """Class folders."""
    for number, name in enumerate(classes):
        for index in range(each):
            image(root / name / f"{index}.png", 100 * number + index, size)
    return root


def pairs(root: Path, values: tuple[int, ...] = (0, 1)) -> Path:
    """Maps of these values in A/, images in B/."""
    for index in range(4):
        image(root / "B" / f"{index}.png", index)
        (root / "A").mkdir(exist_ok=True)
        chosen = np.random.default_rng(index).integers(0, len(values), (32, 32))
        Image.fromarray(np.array(values, np.uint8)[chosen]).save(root / "A" / f"{index}.png")
    return root


def translator(folder: Path) -> Path:
    """A run folder with a generator of random weights."""
    from mlcli.data.pairs import ImageSpec
    from mlcli.models import translators

    made = translators.create("resnet-6", ImageSpec(3), ImageSpec(3), (32, 32), filters=2)
    translators.save_file(folder / "model.safetensors", {"AtoB": made}, {"AtoB": made.network})
    return folder


def described(file: Path) -> dict:
    """What a file of weights says of itself."""
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["mlcli"])


def tried(section: str, told: str, function: Callable, folder: Path) -> str:
    """'' where the situation ends as it should, else what was otherwise."""
    folder.mkdir(parents=True)
    here = os.getcwd()
    os.chdir(folder)
    try:
        function()
        return ""
    except NotTried as reason:
        return f"not tried: {reason}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(where) if "situations" in frame.filename), 0)
        return f"line {line}: {type(error).__name__}: {str(error)[:700]}"
    finally:
        os.chdir(here)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="those whose section and words hold this text")
    parser.add_argument("--keep", type=Path, help="the folder to work in, which is kept")
    arguments = parser.parse_args()
    from tests.benchmarks import situations  # noqa: F401  it fills SITUATIONS

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and a situation would wait for ever
    torch.set_num_threads(1)  # threads do not live on in a fork
    for name in (
        "mlcli.methods.learning.finetuning",
        "mlcli.methods.generation.pix2pix",
        "mlcli.reporting.report",
        "timm",
        "torchvision",
    ):
        importlib.import_module(name)

    left, passed_over = [], []
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        chosen = [each for each in SITUATIONS if f"{each[0]}  {each[1]}".lower().find(arguments.only.lower()) == 0]
        for number, (section, told, function) in enumerate(chosen):
            began = time.monotonic()
            problem = tried(section, told, function, root / f"{number:03d}")
            state = "not tried" if problem.startswith("not tried") else "LEFT" if problem else "held"
            print(f"{state:9} {section}  {told} ({time.monotonic() - began:.0f} s)", flush=True)
            if state == "LEFT":
                left.append(f"{section}  {told}\n    {problem}")
                print(f"    {problem}", flush=True)
            elif state == "not tried":
                passed_over.append(f"{section}  {told}: {problem}")
    print(f"\n{len(chosen)} situations, {len(left)} left, {len(passed_over)} not tried")
    for each in (*left, *passed_over):
        print(each)
    sys.exit(bool(left))


if __name__ == "__main__":
    from tests.benchmarks import bug_reports

    bug_reports.main()  # of the module that the situations know

"""Streams, names of files, and two processes at once: sections A, D and E."""

import json
import os
import signal
import time
from pathlib import Path

from tests.benchmarks.bug_reports import (
    SMALL,
    begin,
    data,
    described,
    expect,
    image,
    run,
    situation,
    translator,
)

TRAIN = ("train", "d", "-o", "r", *SMALL)


def without_reader() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


# -- A: work lost because a message could not be written ------------------------------------------------------------


@situation("A", "train with a stderr that nobody reads keeps its work")
def _():
    data(Path("d"))
    expect(run(*TRAIN, stderr=without_reader()), 0)
    assert Path("r/model.safetensors").is_file() and list(Path("r/state").iterdir())


@situation("A", "train with stderr on a full device keeps its work")
def _():
    data(Path("d"))
    expect(run(*TRAIN, stderr=open("/dev/full", "w")), 0)
    assert Path("r/model.safetensors").is_file()


@situation("A", "translate with a stderr that nobody reads ends 0 after its results")
def _():
    image(Path("i/a.png")), translator(Path("t"))
    expect(run("translate", "t", "i", "-o", "o", stderr=without_reader()), 0)
    assert Path("o/a.png").is_file()


@situation("A", "without stderr the JSON on stdout is whole and alone, also of a file that cannot be read")
def _():
    data(Path("d")), Path("d/cat/broken.png").write_bytes(b"no image")
    for quiet in ((), ("-q",)):
        done = run("classify", "d", "--model", "cifarnet", "--format", "json", *quiet, before=lambda: os.close(2))
        assert done.status == 1 and len(json.loads(done.out)) >= 20


@situation("A", "a stdin or stdout that is missing is no traceback")
def _():
    data(Path("d"))
    for words in (("layers", "--model", "cifarnet"), ("models",), ("classify", "d", "--model", "cifarnet")):
        expect(run(*words, before=lambda: os.close(1)), 0)
    assert run("classify", "-", "--model", "cifarnet", before=lambda: os.close(0)).status in (1, 2)


@situation("A", "a full stdout is one line and exit 1")
def _():
    data(Path("d"))
    for words in (("classify", "d", "--model", "cifarnet", "-q"), ("doctor",), ("models",)):
        done = expect(run(*words, stdout=open("/dev/full", "w")), 1)
        assert done.err.count("\n") == 1, done.err


@situation("A", "SIGHUP saves and ends with 129, and the run resumes")
def _():
    data(Path("d"))
    process = begin("train", "d", "-o", "r", "--epochs", 100_000, "--batch-size", 4, "--size", 16)
    end = time.monotonic() + 120
    while not Path("r/metrics.jsonl").is_file() and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 129 and list(Path("r/state").iterdir())


@situation("A", "-o /dev/stdout leaves the caller's other lines in the log")
def _():
    image(Path("a.png"))
    for name in ("/dev/stdout", "/dev/fd/1"):
        for more in ((), ("--overwrite",)):
            with open("log", "w") as log:
                log.write("before\n")
                log.flush()
                expect(run("classify", "a.png", "--model", "cifarnet", "-o", name, "-q", *more, stdout=log), 0)
            assert Path("log").read_text().startswith("before\n") and "a.png" in Path("log").read_text()


# -- D: lists and names ---------------------------------------------------------------------------------------------


@situation("D", "lists in UTF-16, with a byte-order mark and without, are decoded or refused, and no disk is walked")
def _():
    names = [str(image(Path(f"d/{name}.png")).absolute()) for name in ("a", "b")]
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"):
        done = run("classify", "-", "--model", "cifarnet", "--format", "json",
                   given="\n".join(names).encode(encoding), seconds=60)  # fmt: skip
        assert done.status in (0, 1, 2), "it walks the disk"
        assert done.status or len(json.loads(done.out)) == 2, done.out


@situation("D", "names that differ in Unicode normalization alone are one class")
def _():
    data(Path("d"), ("caf\u00e9", "ship")), data(Path("e"), ("cafe\u0301", "ship"))
    expect(run(*TRAIN, "--val", "e"), 0)
    expect(run("classify", "e", "--evaluate", "--model", "r"), 0)


@situation("D", "a folder named ~ is worth a warning")
def _():
    image(Path("a.png"))
    assert "~" in run("classify", "a.png", "--model", "cifarnet", "-o", "~/x.txt").err


# -- E: two at once -------------------------------------------------------------------------------------------------


def both(first: tuple, second: tuple) -> list[int]:
    """The exit statuses of two commands at once, sorted."""
    processes = [begin(*words) for words in (first, second)]
    texts = [process.communicate(timeout=400)[1].decode() for process in processes]
    assert not any("Traceback" in text for text in texts), texts
    return sorted(process.returncode for process in processes)


@situation("E", "of two train on one run folder one works and one is told so")
def _():
    data(Path("d"))
    words = ("train", "d", "-o", "r", "--epochs", 30, "--batch-size", 4, "--size", 16)
    statuses = both(words, words)
    assert statuses[0] == 0 and statuses[1] in (1, 2) and Path("r/model.safetensors").is_file(), statuses


@situation("E", "overlapping --resume do not mix their metrics")
def _():
    data(Path("d"))
    words = ("train", "d", "-o", "r", "--epochs", 30, "--batch-size", 4, "--size", 16, "--resume")
    both(words, words)
    expect(run(*words), 0)
    steps = [json.loads(line)["step"] for line in Path("r/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), steps


@situation("E", "a holder that was killed blocks nothing")
def _():
    data(Path("d"))
    process = begin("train", "d", "-o", "r", "--epochs", 100_000, "--batch-size", 4, "--size", 16, "--save-every", 0)
    end = time.monotonic() + 120
    while not list(Path("r").glob("state/*.pt")) and time.monotonic() < end:
        time.sleep(0.1)
    held = run("train", "d", "-o", "r", "--resume", "--epochs", 100_000, "--batch-size", 4, "--size", 16)
    assert held.status == 1 and str(process.pid) in held.err, held.err
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    expect(run(*TRAIN, "--overwrite"), 0)
    assert not list(Path("r").rglob(".mlcli-*")), list(Path("r").rglob(".mlcli-*"))


@situation("G2", "train and gan on one run folder: one works, nothing is mixed")
def _():
    data(Path("d"))
    gan = ("gan", "d", "-o", "r", "--steps", 5, "--batch-size", 4, "--filters", 2, "--size", 16, "--compared", 0)
    statuses = both(TRAIN, gan)
    assert statuses[0] == 0 and statuses[1] in (1, 2), statuses
    kind = described(Path("r/model.safetensors"))["kind"]
    assert (json.loads(Path("r/config.json").read_text())["command"] == "train") == (kind == "classifier")

"""A time limit for each decoder, one memory budget for all, and signals that end what is stuck."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from mlcli.errors import ImageError, Interrupted
from mlcli.imaging import image_io, supervision
from mlcli.imaging.decoding import decode
from mlcli.runtime import signals
from tests.cli import ENVIRONMENT

ROOT = Path(__file__).parents[2]
CAT = ROOT / "samples/photos/cat.jpg"


@pytest.fixture
def pipe(tmp_path):
    """A FIFO that nobody writes to, so that its reader waits for ever; released at the end."""
    path = tmp_path / "pipe.jpg"
    os.mkfifo(path)
    yield path
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "wb"):
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stuck_decoder_is_left_to_itself(pipe, monkeypatch, workers):
    monkeypatch.setattr(supervision, "SECONDS", 0.3)
    paths = [CAT, pipe, CAT, pipe, pipe, CAT, CAT]
    before = time.monotonic()
    got = [image for _, image in decode(paths, workers=workers)]
    assert time.monotonic() - before < 5
    for path, image in zip(paths, got, strict=True):
        if path == pipe:
            assert isinstance(image, ImageError) and f"{pipe}: its decoder did not end within 0.3 seconds" in str(image)
        else:
            assert image.shape == (3, 300, 451)


def test_one_image_too_has_a_limit(pipe, monkeypatch):
    monkeypatch.setattr(supervision, "SECONDS", 0.3)
    for read in (image_io.read, image_io.read_labels):
        with pytest.raises(ImageError, match="did not end within"):
            read(pipe)


def test_only_decoding_counts_against_the_limit(monkeypatch):
    monkeypatch.setattr(supervision, "SECONDS", 0.3)

    def slow(image):
        time.sleep(0.8)
        return image

    assert [image.shape for _, image in decode([CAT, CAT], slow, workers=2)] == [(3, 300, 451)] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_that_is_noted_ends_what_is_stuck(pipe, monkeypatch, number, workers):
    monkeypatch.setattr(supervision, "GRACE", 0.2)
    threading.Timer(0.5, os.kill, [os.getpid(), number]).start()
    before = time.monotonic()
    with pytest.raises(Interrupted, match="pipe.jpg was being decoded") as caught, signals.noted():
        list(decode([CAT, pipe, CAT], workers=workers))
    assert caught.value.exit_status == 128 + number and time.monotonic() - before < 4
    assert signals.pending() is None


def test_a_signal_does_not_disturb_running_work(monkeypatch):
    monkeypatch.setattr(supervision, "GRACE", 0.1)
    with signals.noted() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        got = list(decode([CAT] * 8, lambda image: time.sleep(0.1), workers=2))
    assert len(got) == 8 and caught == [signal.SIGTERM]


@pytest.mark.parametrize(
    "number, call",
    [(signal.SIGINT, "list(decode([path] * 3, workers=2))"), (signal.SIGTERM, "image_io.read(path)")],
)
def test_a_signal_ends_a_process_whose_decoder_is_stuck(pipe, number, call):
    code = (
        "import sys; from mlcli.cli import main; import mlcli.cli as cli\n"
        "from mlcli.imaging import image_io; from mlcli.imaging.decoding import decode\n"
        f"path = {str(pipe)!r}\n"
        "def stuck(*_, **__):\n"
        f"    print('begun', flush=True); {call}\n"
        "cli.build = lambda *_: stuck\n"
        "main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT
    )
    assert process.stdout.readline() == b"begun\n"
    time.sleep(0.3)
    process.send_signal(number)
    try:
        _, told = process.communicate(timeout=8)
    finally:
        process.kill()
    assert process.returncode == 128 + number, told


def test_memory_is_shared_by_all_threads(tmp_path, monkeypatch):
    """However many threads there are: the claims stay within the budget, but for the image that is waited for."""
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")  # 960,000 bytes are claimed
    monkeypatch.setattr(supervision.budget, "size", 2_000_000)
    used, lock = [], threading.Lock()

    def transform(image):
        with lock:
            used.append(supervision.budget.used)
        time.sleep(0.02)
        return image

    for _, image in decode([tmp_path / "a.png"] * 20, transform, workers=8, window=20):
        time.sleep(0.01)
        assert image.shape == (3, 300, 400)
    assert max(used) <= 2_000_000 + 960_000 and max(used) > 1_000_000
    assert (supervision.budget.used, supervision.budget.active) == (0, 0)


def test_the_budget_is_given_back_whatever_happens(tmp_path, pipe, monkeypatch):
    monkeypatch.setattr(supervision, "SECONDS", 0.3)
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    good, bad = tmp_path / "a.png", tmp_path / "bad.png"
    list(decode([good, bad, pipe, good], workers=2))
    generator = decode([good] * 9, workers=2)
    next(generator)
    generator.close()
    with pytest.raises(RuntimeError):
        list(decode([good] * 5, lambda image: _fail(), workers=2))
    for read in (image_io.read, image_io.read_labels):
        for path in (good, bad, pipe):
            try:
                read(path)
            except ImageError:
                pass
    deadline = time.monotonic() + 5
    while supervision.budget.used and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (supervision.budget.used, supervision.budget.active) == (0, 0)


def _fail():
    raise RuntimeError("a bug")


def test_an_image_larger_than_the_budget_is_decoded_alone(tmp_path, monkeypatch):
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr(supervision.budget, "size", 1000)
    lock, at_once, most = threading.Lock(), 0, 0

    def transform(image):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1
        return image.float().mean()

    assert all(torch.is_tensor(image) for _, image in decode([tmp_path / "a.png"] * 6, transform, workers=3))
    assert most == 1


def test_results_that_nobody_takes_do_not_hold_up_the_first(tmp_path, monkeypatch):
    """The first image may find the memory full of later ones, which wait until it is taken."""
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr(supervision.budget, "size", 1_000_000)
    first = threading.Event()

    def read(number):
        if number == 0:
            first.wait(10)
        image = image_io.read(tmp_path / "a.png")
        if number == 1:
            first.set()
        return image

    before = time.monotonic()
    assert len(list(decode(range(8), read=read, workers=2))) == 8
    assert time.monotonic() - before < 5


def test_a_stuck_image_does_not_hold_up_the_first_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(supervision, "PATIENCE", 0.3)
    Image.new("RGB", (400, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr(supervision.budget, "size", 1_000_000)
    stuck, release = threading.Event(), threading.Event()

    def read(number):
        if number == 0:
            stuck.wait(10)
        image = image_io.read(tmp_path / "a.png")
        if number == 1:  # holds its memory, and works on
            stuck.set()
            release.wait(10)
        return image

    results = decode(range(2), read=read, workers=2)
    assert next(results)[0] == 0
    release.set()
    assert next(results)[0] == 1


def test_at_the_end_of_the_process_nothing_begins_and_what_has_begun_ends(monkeypatch):
    """A thread in C++ code when the interpreter ends aborts the process; the queue is not empty after an exception."""
    monkeypatch.setattr(supervision, "_parting", threading.Event())
    begun, ended = [], []

    def work(number):
        begun.append(number)
        time.sleep(0.1)
        ended.append(number)

    workers = supervision.Workers(2)
    jobs = [workers.submit(supervision.Job(partial(work, n), n, supervision.budget)) for n in range(20)]
    while len(begun) < 2:
        time.sleep(0.001)
    supervision.part()
    assert len(begun) < 6 and sorted(ended) == sorted(begun) and not supervision._running
    time.sleep(0.3)
    assert len(begun) == len(ended) < 6, "the others are dropped"
    assert all(job.done.is_set() for job in jobs), "nobody waits for them for ever"

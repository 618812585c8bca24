"""Decoding in threads."""

import os
import threading
import time

import pytest
import torch

from mlcli.errors import ImageError
from mlcli.imaging.decoding import available_processors, decode, map_images
from tests.flat import flat


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_decode_keeps_order_and_yields_errors_in_place(workers):
    def read(path):
        time.sleep(0.002 * (path % 5 == 0))  # some are slow, so that order is not given for free
        if path % 7 == 3:
            raise ImageError(f"{path}: bad")
        return torch.tensor(path)

    results = list(decode(range(60), lambda image: image * 10, workers=workers, read=read))
    assert [index for index, _ in results] == list(range(60))
    for index, image in results:
        assert str(image) == f"{index}: bad" if index % 7 == 3 else image.item() == index * 10


@pytest.mark.parametrize(("workers", "window", "most"), [(3, 5, 5), (2, None, 8), (2, 1, 1)])
def test_decode_holds_a_bounded_number_however_slow_the_consumer(workers, window, most):
    lock, taken, given, peak = threading.Lock(), 0, 0, 0

    def paths():
        nonlocal taken, peak
        for path in range(100):
            with lock:
                taken += 1
                peak = max(peak, taken - given)
            yield path

    for count, _ in enumerate(decode(paths(), read=torch.tensor, workers=workers, window=window)):
        if count % 20 == 0:
            time.sleep(0.02)
        given = count + 1
    assert given == 100 and peak <= most


def test_decode_works_in_parallel():
    meeting = threading.Barrier(3, timeout=10)  # broken unless three are in flight at a time

    def read(path):
        meeting.wait()
        return torch.tensor(path)

    assert len(list(decode(range(9), read=read, workers=3))) == 9


def test_decode_lets_other_errors_through():
    def transform(image):
        raise RuntimeError("a bug")

    for workers in (0, 2):
        with pytest.raises(RuntimeError, match="a bug"):
            list(decode(range(9), transform, read=torch.tensor, workers=workers))


def test_decode_stops_when_the_consumer_does():
    release, started = threading.Event(), []

    def read(path):
        started.append(path)
        if path:
            release.wait(10)
        return torch.tensor(path)

    generator = decode(range(1000), read=read, workers=2, window=10)
    assert next(generator)[0] == 0
    before = time.monotonic()
    generator.close()
    assert time.monotonic() - before < 1  # does not wait for the images in work
    release.set()
    time.sleep(0.05)
    assert len(started) <= 4  # and begins no others


def test_map_images_gives_each_its_row(tmp_path):
    paths = [flat(tmp_path / f"{level}.png", level) for level in range(0, 70, 10)]
    paths[2].write_bytes(b"")
    shapes = []

    def compute(batch):
        shapes.append(tuple(batch.shape))
        return batch.float().mean((1, 2, 3))

    answers = list(map_images(paths, lambda image: image, compute, batch_size=3))
    assert [path for path, _ in answers] == paths and isinstance(answers[2][1], ImageError)
    assert [row.item() for _, row in answers if not isinstance(row, ImageError)] == [0, 10, 30, 40, 50, 60]
    assert shapes == [(2, 3, 8, 6), (3, 3, 8, 6), (1, 3, 8, 6)]


def test_processors():
    assert 1 <= available_processors() <= os.cpu_count()

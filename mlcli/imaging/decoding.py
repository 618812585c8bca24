"""Decoding images in threads, one after the other or by batches."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from mlcli.errors import ImageError
from mlcli.imaging import image_io
from mlcli.imaging.memory_images import MemoryImage
from mlcli.imaging.supervision import Job, Workers, budget
from mlcli.io import tally

T = TypeVar("T")
Source = TypeVar("Source", bound=str | Path | MemoryImage)
UNREAD = "image{s} that cannot be read"  # the reason in the tally


def decode(
    paths: Iterable[str | Path | MemoryImage],
    transform: Callable[[Any], T] | None = None,
    *,
    workers: int | None = None,
    window: int | None = None,
    read: Callable[[Any], Any] = image_io.read,
) -> Iterator[tuple[int, T | ImageError]]:
    """Yield (index, image) for each path in order, decoded in threads; an ImageError in place of a bad one.

    transform runs in the worker, and may make whatever is wanted of the tensor. workers: default one for each
    processor; 0 decodes in the calling thread. window: at most so many images are in flight (default 4 for each
    worker), however slow the consumer, so memory does not grow with the number of paths, and all of them together keep
    to the memory budget of `supervision`, but for the one that is waited for. Threads serve, since Pillow's decoders
    release the GIL. A file whose decoder exceeds the time limit gives an ImageError.
    Raises Interrupted where a signal came and a decoder is stuck. Any exception but an ImageError ends the iteration
    and propagates.
    """

    def work(path: str | Path | MemoryImage) -> T | ImageError:
        try:
            image = read(path)
            return image if transform is None else transform(image)
        except ImageError as error:
            _leave_out(path)
            return error

    if workers is None:
        workers = available_processors()
    if workers <= 0:
        yield from ((index, work(path)) for index, path in enumerate(paths))
        return

    window = max(window or 4 * workers, 1)
    pending: deque[tuple[int, Job]] = deque()
    pool = Workers(workers)

    def take() -> tuple[int, T | ImageError]:
        index, job = pending.popleft()
        try:
            return index, job.outcome()
        except ImageError as error:  # the time limit
            pool.add()
            _leave_out(job.name)
            return index, error
        finally:
            job.let_go()

    try:
        for index, path in enumerate(paths):
            pending.append((index, pool.submit(Job(partial(work, path), path, budget))))
            if len(pending) >= window:
                yield take()
        while pending:
            yield take()
    finally:  # also when the consumer stops early: drop what has not begun, and wait for nothing
        pool.close()
        for _, job in pending:
            job.let_go()


def _leave_out(item: object) -> None:
    """Count what was given to `decode`, a path or several of them, as not read."""
    for path in item if isinstance(item, tuple) else (item,):
        if isinstance(path, (str, os.PathLike)):
            tally.current().leave_out(path, UNREAD)


def map_images(
    paths: Sequence[Source],
    prepare: Callable[[Tensor], Tensor],
    compute: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    workers: int | None = None,
    read: Callable[[Any], Any] = image_io.read,
) -> Iterator[tuple[Source, Tensor | ImageError]]:
    """(path, its row of what `compute` gives for a batch) for each image in order; an ImageError for a bad one.

    prepare: an image as read -> (C, H, W), of one shape for all.  compute: (N, C, H, W) -> (N, ...).
    Images are decoded in threads while the batches are computed; memory does not grow with their number.
    """
    waiting: list[tuple[Source, Tensor | ImageError]] = []

    def flush() -> Iterator[tuple[Source, Tensor | ImageError]]:
        good = [image for _, image in waiting if not isinstance(image, ImageError)]
        rows = iter(compute(image_io.stack(good))) if good else iter(())
        for path, image in waiting:
            yield path, image if isinstance(image, ImageError) else next(rows)
        waiting.clear()

    for index, image in decode(paths, prepare, workers=workers, window=2 * batch_size, read=read):
        waiting.append((paths[index], image))
        if len(waiting) == batch_size:
            yield from flush()
    yield from flush()


def available_processors() -> int:
    """The processors that this process may run on, which a container or taskset can make fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

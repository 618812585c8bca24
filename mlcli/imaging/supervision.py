"""Decoding under limits: a time for each file, one memory budget for all threads, and an end when a signal comes.

A decoder is foreign code that cannot be stopped from outside. It therefore runs in a daemon thread, which is left to
itself when its time is over, and which the end of the process does not wait for.
"""

import atexit
import contextvars
import ctypes
import itertools
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from torch import Tensor

from mlcli.errors import ImageError, Interrupted
from mlcli.runtime import signals

T = TypeVar("T")

SECONDS = 300.0  # for one file; 200 megapixels of JPEG 2000 take half of it on one core, all others a tenth
GRACE = 2.0  # seconds that a decoder has when a signal has come, so that a sound file is still taken
PATIENCE = 60.0  # seconds that the image which is waited for waits for the memory of others
PARTING = 1.0  # seconds that the end of the process waits for threads that are still at work
LARGE = 256_000_000  # bytes of an image after which the memory is handed back to the system
MEMORY = 1_500_000_000  # bytes, for all images that are being decoded or wait to be taken

_local = threading.local()
_running: set["Job"] = set()
_parting = threading.Event()  # from now on no job begins


class Job:
    """A call in a thread of `Workers`; `outcome` takes what it gives to the thread that waits for it."""

    def __init__(self, work: Callable[[], Any], name: object, budget: "Budget"):
        self.work, self.name, self.budget = work, name, budget
        self.context = contextvars.copy_context()
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.first = False  # the one that somebody waits for; never held up by the budget
        self.abandoned = False  # nobody waits any more
        self.began: float | None = None  # when the decoder began, by the monotonic clock; None outside of it
        self.claimed = 0  # bytes of the budget
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        _running.add(self)  # before the question whether to begin: `part` waits for this job, or it does not begin
        if _parting.is_set():
            self.done.set()
            _running.discard(self)
            return
        _local.job = self
        try:
            self.result = self.context.run(self.work)
        except BaseException as error:
            self.error = error
        _local.job = None
        with self.lock:
            self.done.set()
            if self.abandoned:
                self.result = None
            claimed = self.claimed
            self.claimed = min(claimed, _bytes_of(self.result))
            spare = claimed - self.claimed
        if claimed > LARGE:
            _trim()
        self.budget.give_back(spare, ended=claimed)
        _running.discard(self)

    def outcome(self) -> Any:
        """What the call returns or raises, when it has.

        Raises ImageError where its decoder is beyond the time limit, Interrupted where a signal that `signals.noted`
        has caught came and the decoder did not end soon after. The thread is then left to itself.
        """
        self.first = True
        self.budget.wake()
        signaled: float | None = None
        while not self.done.wait(0.25):
            now, began = time.monotonic(), self.began
            if (number := signals.pending()) is not None:
                signaled = now if signaled is None else signaled
                if now - signaled > GRACE and began is not None:
                    raise Interrupted(f"interrupted while {self.name} was being decoded", number)
            if began is not None and now - began > SECONDS:
                raise ImageError(
                    f"{self.name}: its decoder did not end within {SECONDS:g} seconds; replace the file, or bring it "
                    "to a faster disk"
                )
        if self.error is not None:
            raise self.error
        return self.result

    def let_go(self) -> None:
        """Give back what was claimed: at once, or where the call has not ended, when it does."""
        with self.lock:
            self.abandoned = not self.done.is_set()
            amount = 0 if self.abandoned else self.claimed
            self.claimed -= amount
        self.budget.give_back(amount)


class Budget:
    """The memory of all decoders in bytes. A claim waits until it fits.

    The job whose result is needed next must not wait for the memory of later results. So it proceeds when no other
    job is at work, or after PATIENCE, since a job at work may be stuck.
    """

    def __init__(self, size: int):
        self.size, self.used = size, 0
        self.active = 0  # of these, what jobs claimed that have not ended
        self.changed = threading.Condition()

    def claim(self, amount: int, job: Job | None) -> None:
        """Wait for `amount` bytes, of which more than the whole budget count as that, and note them in the job."""
        amount = min(amount, self.size)
        with self.changed:
            waited = time.monotonic()
            while self.used and self.used + amount > self.size:
                others = self.active - (job.claimed if job else 0)
                patient = time.monotonic() - waited < PATIENCE
                if job is None or job.abandoned or (job.first and not (others and patient)):
                    break
                self.changed.wait(PATIENCE)
            self.used += amount
            self.active += amount
            if job is not None:
                job.claimed += amount
                if job.began is not None:
                    job.began += time.monotonic() - waited

    def give_back(self, amount: int, *, ended: int = 0) -> None:
        """Free `amount` bytes. ended: what a job had claimed that has ended; its result may still hold some of it."""
        with self.changed:
            self.used -= amount
            self.active -= ended
            self.changed.notify_all()

    def wake(self) -> None:
        """Wake the claims that wait."""
        with self.changed:
            self.changed.notify_all()


budget = Budget(MEMORY)


class Workers:
    """Threads that take jobs in order. They are daemons: a stuck one holds up neither the others nor the end."""

    _number = itertools.count()

    def __init__(self, count: int):
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.count = 0
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """One thread more, such as in place of one that is stuck."""
        self.count += 1
        threading.Thread(target=self._loop, name=f"decode-{next(self._number)}", daemon=True).start()

    def submit(self, job: Job) -> Job:
        self.jobs.put(job)
        return job

    def close(self) -> None:
        """Take no more jobs; those that have not begun are dropped."""
        while True:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.done.set()
        for _ in range(self.count):
            self.jobs.put(None)

    def _loop(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.run()
            if job.abandoned:  # another thread has replaced this one
                break
            del job  # and its result, which would live until the next one comes


def watched(work: Callable[[], T], name: object) -> T:
    """`work`, which decodes the file `name`, under the time limit; in a thread of its own unless this is a worker's.

    Raises what `Job.outcome` raises.
    """
    job: Job | None = getattr(_local, "job", None)
    if job is not None:
        job.began, job.name = time.monotonic(), name
        try:
            return work()
        finally:
            job.began = None
    job = Job(lambda: watched(work, name), name, budget)
    threading.Thread(target=job.run, name="decode", daemon=True).start()
    try:
        return job.outcome()
    finally:
        job.let_go()


def claim(amount: int) -> None:
    """Wait until the budget has `amount` bytes for the job of this thread; its end, or its taker, gives them back."""
    if (job := getattr(_local, "job", None)) is not None:
        job.budget.claim(amount, job)


@atexit.register
def part() -> None:
    """Let threads that are at work end theirs, so that they do not meet an interpreter that is half gone.

    There they would be ended in the middle of C++ code, which aborts the process. After an exception jobs may still be
    waiting, since its traceback keeps alive what would drop them; they do not begin any more.
    """
    _parting.set()
    until = time.monotonic() + PARTING
    while _running and time.monotonic() < until:
        time.sleep(0.002)


def _trim() -> None:
    """Hand freed memory back to the system; the C library keeps some for each thread, of no use to another."""
    with suppress(AttributeError, OSError):  # where the C library is another
        ctypes.CDLL(None).malloc_trim(0)


def _bytes_of(result: Any) -> int:
    """The memory of the tensors in a result of `decode`."""
    if isinstance(result, (tuple, list)):
        return sum(_bytes_of(part) for part in result)
    return result.nbytes if isinstance(result, Tensor) else 0

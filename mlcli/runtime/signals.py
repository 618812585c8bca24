"""SIGINT, SIGTERM and SIGHUP (the terminal or the connection is gone) end a process with its work saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Those that became exceptions. A library may make an error of its own of such an exception (safetensors does), and what
# it then says of files and weights is not true.
arrived: list[int] = []

# Those that were noted by work that has gone on to its end all the same, since they came with the last of it. Whoever
# waits for the process, as a script does, is to know of them.
outlasted: list[int] = []


def end(number: int, frame: Any) -> None:
    """A handler: the signal as an exception, so that half-written temporary files are removed on the way out."""
    arrived.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def listen() -> None:
    """From now on these signals end the process by exceptions, except where they are `noted`."""
    arrived.clear()
    for number in _heeded():
        signal.signal(number, end)


def stop_listening() -> None:
    """For the way out, where there is nobody left to catch an exception."""
    arrived.clear()
    for number in ENDING:
        if signal.getsignal(number) == end:
            signal.signal(number, signal.SIG_DFL)


_noting: list[list[int]] = []  # what each `noted` that is in force has caught, the outermost first


def pending() -> int | None:
    """The number of a signal that `noted` has caught and nobody has acted on yet, or None."""
    return next((caught[0] for caught in _noting if caught), None)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Collects the signals; a second SIGINT breaks off at once. Only the main thread may listen."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number: int, frame: Any) -> None:
        if caught and number == signal.SIGINT:
            end(number, frame)
        caught.append(number)

    before = {number: signal.signal(number, note) for number in _heeded()}
    _noting.append(caught)
    try:
        yield caught
        outlasted.extend(caught)
    finally:
        _noting.pop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _heeded() -> list[int]:
    """Those that are not ignored, as a shell has SIGINT of what it starts in the background, and nohup SIGHUP."""
    return [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]

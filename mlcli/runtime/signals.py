"""SIGINT, SIGTERM and SIGHUP (the terminal or the connection was closed) end a process after its work is saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Signals that were raised as exceptions. A library may turn such an exception into an error of its own (safetensors
# does), whose message about files and weights is then not true.
arrived: list[int] = []

# Signals that came so late that the work was finished all the same. The exit status tells the script that waits for the
# process about them.
outlasted: list[int] = []


def end(number: int, frame: Any) -> None:
    """Handle a signal by an exception, so that half-written temporary files are removed on the way out."""
    arrived.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def listen() -> None:
    """From now on the signals end the process by exceptions, except within `noted`."""
    arrived.clear()
    for number in _heeded():
        signal.signal(number, end)


def stop_listening() -> None:
    """Restore the default handlers, for the end of the process, where nothing catches an exception any more."""
    arrived.clear()
    for number in ENDING:
        if signal.getsignal(number) == end:
            signal.signal(number, signal.SIG_DFL)


_noting: list[list[int]] = []  # the signals caught by each active `noted`, the outermost first


def pending() -> int | None:
    """The number of a signal that an active `noted` has caught, or None."""
    return next((caught[0] for caught in _noting if caught), None)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Collect the signals that arrive within the block, in a list; a second SIGINT raises KeyboardInterrupt at once.

    In other threads than the main one the list stays empty, since Python handles signals in the main thread.
    """
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
    """The signals that are not ignored. Shells let background processes ignore SIGINT, and nohup SIGHUP."""
    return [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]

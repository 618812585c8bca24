"""What a function of the api says while it works, to whoever listens: the command line prints it, Python may log it.

`say`, `complain` and `Progress` speak to the listener that is in force in this thread, as `logging` does to its
handlers. Without one, problems and messages go to the logger "mlcli".
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """Where a piece of work stands: its title, how much of what is done (total: None where unknown), and a note."""

    title: str
    done: int
    total: int | None
    note: str = ""


class Listener:
    """Listens to one call. on_progress: called with each `Step`."""

    def __init__(self, on_progress: Callable[[Step], None] | None = None):
        self.on_progress = on_progress
        self.logger = logging.getLogger("mlcli")

    def message(self, text: str) -> None:
        """Something worth knowing."""
        self.logger.info(text)

    def problem(self, problem: object) -> None:
        """Something that was left out or went wrong, while the rest is done."""
        self.logger.warning(str(problem))

    def progress(self, total: int | None, title: str, start: int) -> "Task":
        """A piece of work begins, of `total` steps of which `start` are done."""
        return Task(self, total, title, start)


class Silent(Listener):
    """Hears nothing: of several processes of a group one speaks."""

    def message(self, text: str) -> None:
        """Not said."""

    def problem(self, problem: object) -> None:
        """Not said."""


class Task:
    """A piece of work that is listened to. done: how many of its steps."""

    def __init__(self, listener: Listener, total: int | None, title: str, start: int = 0):
        self.listener, self.total, self.title, self.done = listener, total, title, start

    def to(self, done: int, note: str = "", *, always: bool = False) -> None:
        """Move to `done`, with a note such as the loss; `always` asks for a line in a log even if it is soon."""
        self.done = done
        if self.listener.on_progress:
            self.listener.on_progress(Step(self.title, done, self.total, note))

    def resumed(self, done: int) -> None:
        """So many of the steps were done in an earlier run."""
        self.done = done

    def complain(self, problem: object) -> None:
        """A problem met in this piece of work."""
        self.listener.problem(problem)

    def line(self, text: str) -> None:
        """A message on this piece of work."""
        self.listener.message(text)

    def __enter__(self) -> "Task":
        return self

    def __exit__(self, *_: object) -> None:
        """The work has ended, well or not."""


_current: ContextVar[Listener | None] = ContextVar("listener", default=None)


def current() -> Listener:
    return _current.get() or Listener()


@contextmanager
def listening(listener: Listener) -> Iterator[Listener]:
    """Have this listener hear what is said within the block."""
    before = _current.set(listener)
    try:
        yield listener
    finally:
        _current.reset(before)


def say(text: str) -> None:
    """Tell the listener something worth knowing."""
    current().message(text)


def complain(problem: object) -> None:
    """Tell the listener of a problem."""
    current().problem(problem)


def Progress(total: int | None, title: str, *, start: int = 0) -> Task:  # noqa: N802  it is used as a class is
    """A piece of work of `total` steps, for a `with` block."""
    return current().progress(total, title, start)

"""How images are to be read: what the user allowed.

It is the setting of a whole command rather than of one call, and reaches the decoder through a context variable, which
the decoding threads inherit (`supervision.Job`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

# Notes for the tally
TRUNCATED = "cut off, of which what could be decoded was taken (--accept-truncated)"
DARK = "of 16 bits and near black, using a quarter of the range at most; --stretch scales these to all of it"


@dataclass(frozen=True)
class Reading:
    """accept_truncated: take what decodes of a file that is cut off.

    stretch: bring images of 16 bits that use 8, 10, 12 or 14 of them alone to the full range.
    """

    accept_truncated: bool = False
    stretch: bool = False

    def settings(self) -> dict[str, bool]:
        """Those that are on, by name: what results depend on besides the files."""
        return {name: True for name in ("accept_truncated", "stretch") if getattr(self, name)}


_current: ContextVar[Reading] = ContextVar("reading", default=Reading())  # noqa: B039  it is frozen


def current() -> Reading:
    """What holds in this thread."""
    return _current.get()


@contextmanager
def using(reading: Reading) -> Iterator[Reading]:
    """Read by these within the block."""
    before = _current.set(reading)
    try:
        yield reading
    finally:
        _current.reset(before)


def settle(*, accept_truncated: bool, stretch: bool) -> None:
    """Let these hold for the rest of a `using` block, as where a resumed run has its own."""
    _current.set(replace(_current.get(), accept_truncated=accept_truncated, stretch=stretch))

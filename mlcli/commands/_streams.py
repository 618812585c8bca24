"""The standard streams, made safe as a process starts: nothing that is said about the work can end the work.

Whatever writes to them (prints, bars, warnings, Typer's help) goes through here, and Python's last flush too:

- A message on stderr that cannot be written is dropped: its reader has gone, the disk is full, the terminal is closed.
- A result on stdout that cannot be written is an MlcliError, once. A reader that has read enough (`mlcli … | head`) is
  no error; what comes after is dropped.
- A stream that is missing (`2>&-`) is /dev/null, so that no file that is opened later takes its number and gets what
  libraries write to it by themselves.
"""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from mlcli.io.descriptors import Descriptor
from mlcli.io.files import cannot_be_written

if TYPE_CHECKING:
    from typing_extensions import Buffer


def secure() -> None:
    """Put safe streams in the place of the process's own; those that something else has put there stay."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, hence this one
            os.set_inheritable(opened, True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(Results(1), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(Messages(2), sys.stderr, line_buffering=True)


def _text(raw: "Messages", before: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    """A text stream as the one before, whose characters that the encoding lacks become escapes."""
    encoding = "utf-8" if before is None else before.encoding
    line_buffering = line_buffering or os.isatty(raw.fileno())
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=line_buffering)


class Messages(Descriptor):
    """What cannot be written is dropped."""

    def write(self, data: "Buffer") -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.fail(error)
            return memoryview(data).nbytes

    def fail(self, error: OSError) -> None:
        """What is done about a write that failed."""


class Results(Messages):
    """The first write that fails raises MlcliError, unless the reader has read enough; what comes after is dropped."""

    failed = False

    def write(self, data: "Buffer") -> int:
        return memoryview(data).nbytes if self.failed else super().write(data)

    def fail(self, error: OSError) -> None:
        self.failed = True
        if error.errno != errno.EPIPE:
            raise cannot_be_written("standard output", error) from None

"""Open descriptors: written whole, and found behind names such as /dev/stdout."""

import io
import os
import select
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

LINKS = 40  # followed one after the other, as Linux does


class Descriptor(io.FileIO):
    """An open descriptor, written where it stands; it stays open itself, unless `closefd`.

    `write` writes all that it is given, and waits for a descriptor that does not wait by itself (O_NONBLOCK).
    """

    def __init__(self, number: int, *, closefd: bool = False) -> None:
        super().__init__(number, "wb", closefd=closefd)

    def write(self, data: "Buffer") -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            written = super().write(rest)
            if written is None:
                select.select([], [self], [])
            else:
                rest = rest[written:]
        return size


def descriptor_behind(path: str | Path) -> int | None:
    """The number of the descriptor that a path names, as /dev/stdout, /dev/fd/3 and links to them do; else None.

    To open such a path is to open the file behind it once more, at its beginning: what others have written to the
    descriptor would be overwritten.
    """
    target = os.path.abspath(path)
    for _ in range(LINKS):
        folder, name = os.path.split(target)
        folder = os.path.realpath(folder)
        if name.isdecimal() and len(name) < 10 and folder in (f"/proc/{os.getpid()}/fd", "/dev/fd"):
            return int(name)
        target = os.path.join(folder, name)
        if not os.path.islink(target):
            return None
        target = os.path.join(folder, os.readlink(target))
    return None

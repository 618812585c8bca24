"""Parts of files, read through descriptors of their own."""

import io
import os
from typing import Any, BinaryIO

BUFFER = 1 << 16


class _Raw(io.RawIOBase):
    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset
        if at < 0:
            raise OSError("negative seek position")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        into = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._descriptor, [into], self._start + self._at) if into else 0
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def section(descriptor: int, start: int, size: int) -> BinaryIO:
    """A stream over `size` bytes of a file from `start` on. It owns the descriptor, whose position it never uses."""
    return io.BufferedReader(_Raw(descriptor, start, size), BUFFER)

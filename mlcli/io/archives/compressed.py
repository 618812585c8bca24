"""Random access to the bytes of a compressed file, such as a .tar.gz, without unpacking it.

gzip lets a decoder be copied, and copies of it are kept every few megabytes, from which reading can begin; the other
formats are read from the front. The bytes that were decompressed last are kept for threads that come a little later.
"""

import bz2
import lzma
import os
import threading
import zlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

from mlcli.io.archives import recent
from mlcli.io.archives.archive import ArchiveError

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
CHUNK = 1 << 14  # compressed bytes that are read at a time; gzip makes at most a thousand times as many of them
PIECE = 1 << 20  # bytes that other decoders give at a time, at most
KEPT = 48 << 20  # bytes of the window behind the decoder
SPACING = 1 << 20  # bytes between copies of the decoder, at first
COPIES = 512  # of some 40 kB each; where there are more, every second one goes
RATIO, ALLOWANCE = 100, 1 << 30  # a file that decompresses to more than so many times its size, and to more than this


def compression(head: bytes) -> str:
    """The compression of a file that begins with these bytes; empty where it is none that is known."""
    return next((name for mark, name in MAGIC.items() if head.startswith(mark)), "")


def _zstd() -> Any:
    try:
        from compression import zstd  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ArchiveError(
                "compressed by zstd, which this Python cannot read; `pip install backports.zstd`, or `zstd -d` it once"
            ) from None
    return zstd.ZstdDecompressor()


_MAKERS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lzma.LZMADecompressor,
    "zstd": _zstd,
}


class _Decoder:
    """Decompresses from front to back.  at: position in the file.  out: bytes decompressed so far."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make, self.current = make, make()
        self.at = self.out = 0
        self.begun = False  # whether the current stream has had any bytes: files can be several streams in a row

    def copy(self) -> "_Decoder":
        other = object.__new__(_Decoder)
        other.make, other.at, other.out, other.begun = self.make, self.at, self.out, self.begun
        other.current = self.current.copy()
        return other

    def next(self, descriptor: int) -> bytes:
        """The next bytes; empty at the end. Raises ArchiveError where the file is damaged or cut off."""
        try:
            while True:
                if self.current.eof:
                    unused = len(self.current.unused_data)
                    self.at -= unused
                    self.current, self.begun = self.make(), False
                if getattr(self.current, "needs_input", True):
                    data = os.pread(descriptor, CHUNK, self.at)
                    if not data or (not self.begun and self.out and not compression(data)):  # padding behind the end
                        if self.begun:
                            raise ArchiveError("cut off; get the archive again")
                        return b""
                    self.at += len(data)
                else:
                    data = b""
                self.begun = True
                piece = (
                    self.current.decompress(data)
                    if hasattr(self.current, "unconsumed_tail")  # of zlib
                    else self.current.decompress(data, PIECE)
                )
                if piece:
                    self.out += len(piece)
                    return piece
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise ArchiveError(f"damaged ({error}); get the archive again") from None
        except Exception as error:  # zstd has an error of its own, which may be of either module
            if type(error).__name__ != "ZstdError":
                raise
            raise ArchiveError(f"damaged ({error}); get the archive again") from None


class CompressedFile:
    """The decompressed bytes of a file, at any position, for several threads.

    opens: a new descriptor of the file for each reading.
    """

    def __init__(self, kind: str, size: int, opens: Callable[[], int]) -> None:
        self.copyable = kind == "gzip"
        self._make, self._opens = _MAKERS[kind], opens
        self._most = RATIO * size + ALLOWANCE
        self._lock = threading.Lock()
        self.release()

    def release(self) -> None:
        """Hold nothing in memory any more."""
        with self._lock:
            self._decoder = _Decoder(self._make)
            self._window: deque[tuple[int, bytes]] = deque()  # (position, bytes), up to where the decoder is
            self._held = 0
            self._spacing = SPACING
            self._copies: list[_Decoder] = []  # by their positions

    def read_at(self, position: int, size: int) -> bytes:
        """The bytes from a position on; fewer at the end. Raises ArchiveError, and OSError."""
        recent.used(self)
        with self._lock:
            descriptor = self._opens()
            try:
                return self._read(descriptor, position, size)
            finally:
                os.close(descriptor)

    def _read(self, descriptor: int, position: int, size: int) -> bytes:
        first = self._window[0][0] if self._window else self._decoder.out
        nearest = bisect_right(self._copies, position, key=lambda copy: copy.out)
        if position < first or (nearest and self._copies[nearest - 1].out > self._decoder.out):
            self._decoder = self._copies[nearest - 1].copy() if nearest else _Decoder(self._make)
            self._window.clear()
            self._held = 0
        parts: list[bytes] = []
        for start, piece in reversed(self._window):  # what is asked for is mostly near the end
            if start + len(piece) <= position:
                break
            if start < position + size:
                parts.insert(0, piece[max(0, position - start) : position + size - start])
        while self._decoder.out < position + size:
            start = self._decoder.out
            if not (piece := self._decoder.next(descriptor)):
                break
            if self._decoder.out > self._most:
                raise ArchiveError(
                    f"decompresses to more than {RATIO} times its size, as what is made to fill a disk does; unpack it "
                    "if it is what you expect"
                )
            if start + len(piece) > position:
                parts.append(piece[max(0, position - start) : position + size - start])
            self._keep(start, piece)
        return b"".join(parts)

    def _keep(self, start: int, piece: bytes) -> None:
        self._window.append((start, piece))
        self._held += len(piece)
        while self._held > KEPT and len(self._window) > 1:
            self._held -= len(self._window.popleft()[1])
        reached = self._copies[-1].out if self._copies else 0
        if self.copyable and self._decoder.out >= reached + self._spacing and not self._decoder.current.eof:
            self._copies.append(self._decoder.copy())
            if len(self._copies) > COPIES:
                self._copies = self._copies[1::2]
                self._spacing *= 2

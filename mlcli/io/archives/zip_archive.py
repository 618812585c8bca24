"""Zip archives: where the bytes of each member lie.

The standard library's `zipfile` keeps an object for each member; here a member is a name and five numbers, read from
the central directory at the end of the file piece by piece.
"""

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from mlcli.counting import counted
from mlcli.io.archives.archive import MEMBER_BYTES, Archive, ArchiveError, IndexBuilder
from mlcli.io.archives.sections import section

END = struct.Struct("<4s4H2LH")  # of the central directory
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR64 = struct.Struct("<4sLQL")
ENTRY = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")
STORED, DEFLATED = 0, 8
ENCRYPTED, UTF8 = 1, 1 << 11  # flags
PIECE = 1 << 20  # bytes of the directory that are read at a time
BOMB_BYTES, BOMB_RATIO = 64 << 20, 200  # a member of more bytes than this, and so many times what it is compressed to

DAMAGED = "damaged; get the archive again"


class ZipArchive(Archive):
    """An index of a zip archive."""

    def index(self) -> None:
        descriptor = self.descriptor()
        try:
            start, size, shift = _directory(descriptor, self.stamp.size)
            builder = IndexBuilder(self.left_out, 5)
            for name, flags, method, mode, row in _entries(descriptor, start, size):
                if name.endswith("/") or (clean := builder.accept(name)) is None:
                    continue
                if flags & ENCRYPTED:
                    self.left_out.add(clean, "encrypted", "unpack the archive with its password")
                elif stat.S_ISLNK(mode):
                    self.left_out.add(clean, "links")
                elif method not in (STORED, DEFLATED):
                    self.left_out.add(clean, f"compressed by method {method}", "unpack the archive")
                else:
                    offset, packed, unpacked, check = row
                    builder.add(clean, offset + shift, packed, unpacked, check, method)
        finally:
            os.close(descriptor)
        self.names, self._columns = builder.sorted()
        self.repeated = builder.repeated

    def size(self, number: int) -> int:
        return self._columns[2][number]

    def position(self, number: int) -> int:
        return self._columns[0][number]

    def open(self, number: int) -> BinaryIO:
        offset, packed, unpacked, check, method = (column[number] for column in self._columns)
        descriptor = self.descriptor()
        try:
            header = os.pread(descriptor, LOCAL.size, offset)
            if len(header) < LOCAL.size or header[:4] != b"PK\3\4":
                raise ArchiveError(DAMAGED)
            start = offset + LOCAL.size + sum(LOCAL.unpack(header)[-2:])
            if start + packed > self.stamp.size:
                raise ArchiveError(DAMAGED)
            if method == STORED and packed == unpacked:
                return section(os.dup(descriptor), start, packed)
            if method == STORED:
                raise ArchiveError(DAMAGED)
            return io.BytesIO(_inflated(descriptor, start, packed, unpacked, check))
        finally:
            os.close(descriptor)


def _inflated(descriptor: int, start: int, packed: int, unpacked: int, check: int) -> bytes:
    if unpacked > MEMBER_BYTES:
        raise ArchiveError(f"of {counted(unpacked, 'byte')}, more than is read of a compressed archive; unpack it")
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed:
        raise ArchiveError(f"{counted(unpacked, 'byte')} compressed to {packed:,}, made to fill the memory")
    decoder = zlib.decompressobj(-15)
    try:
        content = decoder.decompress(os.pread(descriptor, packed, start), unpacked + 1)
    except zlib.error as error:
        raise ArchiveError(f"damaged ({error}); get the archive again") from None
    if len(content) != unpacked or zlib.crc32(content) != check:
        raise ArchiveError("damaged (its bytes are not those that the archive declares); get the archive again")
    return content


def _directory(descriptor: int, total: int) -> tuple[int, int, int]:
    """(start and size of the central directory, what to add to positions: bytes in front of the archive)."""
    tail_at = max(0, total - END.size - 65_535 - LOCATOR64.size)
    tail = os.pread(descriptor, total - tail_at, tail_at)
    found = tail.rfind(b"PK\5\6")
    if found < 0 or found + END.size > len(tail):
        raise ArchiveError("no zip archive, or cut off: the list of members at its end is missing; get it again")
    size, start = END.unpack_from(tail, found)[5:7]
    end = tail_at + found
    if found >= LOCATOR64.size and tail[found - LOCATOR64.size :].startswith(b"PK\6\7"):
        end64 = os.pread(descriptor, END64.size, LOCATOR64.unpack_from(tail, found - LOCATOR64.size)[2])
        if len(end64) < END64.size or end64[:4] != b"PK\6\6":
            raise ArchiveError(DAMAGED)
        size, start = END64.unpack(end64)[8:10]
        end = start + size
    shift = end - size - start
    if shift < 0 or start + shift + size > total:
        raise ArchiveError(DAMAGED)
    return start + shift, size, shift


def _entries(descriptor: int, start: int, size: int) -> Iterator[tuple[str, int, int, int, tuple[int, int, int, int]]]:
    """(name, flags, method, mode of the file, (offset, packed and unpacked size, check sum)) of each member."""
    end, held, at = start + size, b"", 0
    while True:
        while len(held) - at < ENTRY.size + 3 * 65_535 and start < end:
            piece = os.pread(descriptor, min(PIECE, end - start), start)
            if not piece:
                raise ArchiveError(DAMAGED)
            held, at, start = held[at:] + piece, 0, start + len(piece)
        if at == len(held):
            return
        if len(held) - at < ENTRY.size or held[at : at + 4] != b"PK\1\2":
            raise ArchiveError(DAMAGED)
        fields = ENTRY.unpack_from(held, at)
        flags, method, check, packed, unpacked = fields[3], fields[4], *fields[7:10]
        name_size, extra_size, comment_size = fields[10:13]
        offset = fields[16]
        name = held[at + ENTRY.size : at + ENTRY.size + name_size]
        extra = held[at + ENTRY.size + name_size : at + ENTRY.size + name_size + extra_size]
        at += ENTRY.size + name_size + extra_size + comment_size
        if at > len(held):
            raise ArchiveError(DAMAGED)
        if 0xFFFFFFFF in (packed, unpacked, offset):
            unpacked, packed, offset = _large(extra, unpacked, packed, offset)
        text = name.decode("utf-8", "surrogateescape") if flags & UTF8 else name.decode("cp437")
        yield text, flags, method, fields[15] >> 16, (offset, packed, unpacked, check)


def _large(extra: bytes, *values: int) -> list[int]:
    """The values of a zip64 field in place of those that do not fit into 32 bits."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<2H", extra)
        content, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 1:
            large = iter(content[at : at + 8] for at in range(0, len(content) - 7, 8))
            found = [
                int.from_bytes(next(large, b"\xff" * 8), "little") if value == 0xFFFFFFFF else value for value in values
            ]
            if max(found) < 1 << 62:
                return found
    raise ArchiveError(DAMAGED)

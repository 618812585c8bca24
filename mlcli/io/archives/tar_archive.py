"""Tar archives, compressed or not: where the bytes of each member lie.

The formats are those of POSIX (ustar and pax) and of GNU tar. The standard library's `tarfile` keeps an object of a
kilobyte for each member; here a member is a name and two numbers.
"""

import io
import os
import posixpath
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from mlcli.counting import counted
from mlcli.io.archives.archive import MEMBER_BYTES, Archive, ArchiveError, IndexBuilder
from mlcli.io.archives.compressed import CompressedFile, compression
from mlcli.io.archives.sections import section

BLOCK = 512
READ_AHEAD = 1 << 16  # bytes that are read at once while small members are listed
EXTENSION_BYTES = 1 << 20  # of a long name, or of the values of a pax header
ZEROS = bytes(BLOCK)

Read = Callable[[int, int], bytes]  # (position, size) -> bytes, fewer at the end


class Header(NamedTuple):
    """What is said of one member.  kind: the letter of its type.  at, size: of its bytes."""

    name: str
    kind: bytes
    link: str
    at: int
    size: int
    sparse: bool


class TarArchive(Archive):
    """An index of a tar archive."""

    def index(self) -> None:
        self._compressed: CompressedFile | None = None
        descriptor = self.descriptor()
        try:
            if kind := compression(os.pread(descriptor, 8, 0)):
                self._compressed = CompressedFile(kind, self.stamp.size, self.descriptor)
                self.front_to_back = not self._compressed.copyable
            self._scan(self._compressed.read_at if self._compressed else _ahead(descriptor))
        finally:
            os.close(descriptor)

    def _scan(self, read: Read) -> None:
        builder = IndexBuilder(self.left_out, 2)
        links: list[tuple[str, str]] = []
        try:
            for header in _headers(read, None if self._compressed else self.stamp.size):
                self._take(header, builder, links)
        except ArchiveError as error:
            if not builder.names:
                raise
            self.problem = f"{error}; its first {counted(len(builder.names), 'member')} are taken"
        builder.link(links)
        self.names, (self._positions, self._sizes) = builder.sorted()
        self.repeated = builder.repeated

    def _take(self, header: Header, builder: IndexBuilder, links: list[tuple[str, str]]) -> None:
        if header.kind == b"5" or (header.kind in b"0\0" and header.name.endswith("/")):  # a folder
            return
        if (name := builder.accept(header.name)) is None:
            return
        if header.kind in (b"1", b"2"):
            # A hard link names its target from the top of the archive, a symbolic one from its own folder
            folder = posixpath.dirname(name) if header.kind == b"2" else ""
            links.append((name, posixpath.normpath(posixpath.join(folder, header.link))))
        elif header.kind in (b"3", b"4", b"6"):
            self.left_out.add(name, "pipes or devices")
        elif header.sparse:
            self.left_out.add(name, "sparse files", "unpack the archive")
        else:
            builder.add(name, header.at, header.size)

    def size(self, number: int) -> int:
        return self._sizes[number]

    def position(self, number: int) -> int:
        return self._positions[number]

    def open(self, number: int) -> BinaryIO:
        position, size = self._positions[number], self._sizes[number]
        if self._compressed is None:
            return section(self.descriptor(), position, size)
        if size > MEMBER_BYTES:
            raise ArchiveError(f"of {counted(size, 'byte')}, more than is read of a compressed archive; unpack it")
        return io.BytesIO(self._compressed.read_at(position, size))


def _ahead(descriptor: int) -> Read:
    """Reads from a file, and some bytes more, in which the next header may be."""
    start, held = 0, b""

    def read(position: int, size: int) -> bytes:
        nonlocal start, held
        if not start <= position <= position + size <= start + len(held):
            near = position < start + READ_AHEAD  # after a large member the next header is far away as well
            start, held = position, os.pread(descriptor, max(size, READ_AHEAD) if near else size, position)
        return held[position - start : position - start + size]

    return read


def _headers(read: Read, total: int | None) -> Iterator[Header]:
    """Each member of a tar. total: bytes of the archive; None where they are not known.

    Raises ArchiveError where it is none, damaged or cut off, after the members before that.
    """
    position = 0
    long_name = long_link = ""
    values: dict[str, str] = {}
    while True:
        block = read(position, BLOCK)
        if block == ZEROS:
            return
        if len(block) < BLOCK:
            raise ArchiveError("cut off, for the mark of its end is missing; get the archive again")
        if not _is_header(block):
            raise ArchiveError(f"{'damaged' if position else 'no tar archive'} (no header at byte {position:,})")
        kind, size, at = block[156:157], _number(block[124:136]), position + BLOCK
        extension = kind in b"LKxXg"
        if not extension and "size" in values:
            size = int(values["size"]) if values["size"].isdecimal() else -1
        if size < 0 or size > 1 << 62:
            raise ArchiveError(f"damaged (a header at byte {position:,} that says its size is {size:,})")
        if extension and size > EXTENSION_BYTES:
            raise ArchiveError(f"damaged (a name of {counted(size, 'byte')})")
        if kind in b"123456":  # without bytes, whatever they say
            size = 0
        if total is not None and at + size > total:
            raise ArchiveError("cut off within a member; get the archive again")
        position = at + -(-size // BLOCK) * BLOCK
        if extension:
            content = read(at, size)
            if kind == b"L":
                long_name = _text(content)
            elif kind == b"K":
                long_link = _text(content)
            elif kind != b"g":  # what is said of all members is a comment
                values |= _pax(content)
            continue
        if total is None and size and not read(at + size - 1, 1):
            raise ArchiveError("cut off within a member; get the archive again")
        sparse = kind == b"S" or any(key.startswith("GNU.sparse") for key in values)
        name = values.get("path") or long_name or _name(block)
        link = (values.get("linkpath") or long_link or _text(block[157:257])) if kind in b"12" else ""
        yield Header(name, kind, link, at, size, sparse)
        long_name = long_link = ""
        values = {}


def _is_header(block: bytes) -> bool:
    """Whether the checksum is the sum of the bytes, with spaces in place of itself.

    The lower half of Adler-32 is one more than that sum, modulo 65521, and is computed ten times as fast.
    """
    field = block[148:156]
    return ((zlib.adler32(block) & 0xFFFF) - 1 - sum(field) + 8 * 32 - _number(field)) % 65521 == 0


def _number(field: bytes) -> int:
    """A number of a header: octal digits, or, where they do not suffice, bytes after a mark; -1 for none."""
    if field[0] & 128:
        return int.from_bytes(bytes([field[0] & 127]) + field[1:])
    digits = field.split(b"\0")[0].strip() or b"0"
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _pax(content: bytes) -> dict[str, str]:
    """The values of a pax header: lines of `LENGTH KEY=VALUE`. Raises ArchiveError where it is damaged."""
    values = {}
    while content.strip(b"\0"):
        length, _, rest = content.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        line = content[:size]
        if len(line) != max(5, size) or not line.endswith(b"\n") or b"=" not in line:
            raise ArchiveError("damaged (a pax header that cannot be read)")
        key, _, value = line[len(length) + 1 : -1].partition(b"=")
        values[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        content = content[size:]
    return values

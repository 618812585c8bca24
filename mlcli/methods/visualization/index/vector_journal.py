"""What an index of feature vectors has gained since it was written, in a file beside it that only grows.

To write the index again for every minute of work would take longer and longer: with a million images it has gigabytes.
The journal begins with a line of JSON: what the vectors were made with, and their length. Blocks follow: the number of
vectors, the bytes of their names, a checksum; then marks, vectors and names as the index has them. A block that a
killed process has left torn does not count.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from mlcli.io.growing_file import GrowingFile

BLOCK_HEADER = struct.Struct("<QQI")
ENDING = ".new"


class Block(NamedTuple):
    """names, marks (C, 2) int64 and vectors (C, D) float32 of some images."""

    names: list[bytes]
    marks: Tensor
    vectors: Tensor


class VectorJournal:
    """The journal of the index in `index_file`; the lock of the index is held by who changes it."""

    def __init__(self, index_file: Path, made_with: Mapping[str, Any]) -> None:
        self.file = index_file.with_name(index_file.name + ENDING)
        self.made_with = made_with
        self._growing: GrowingFile | None = None

    def is_there(self) -> bool:
        return os.path.isfile(self.file)

    def append(self, block: Block) -> None:
        """Add a block, and wait until it is on the disk. Raises MlcliError where it cannot be written."""
        if self._growing is None:  # what an earlier one holds is in the index
            self._growing = GrowingFile(self.file)
            header = {"made_with": self.made_with, "width": block.vectors.shape[1]}
            self._growing.append(json.dumps(header).encode() + b"\n")
        parts = (block.marks, block.vectors.float().contiguous())
        data = b"".join([*(part.numpy().tobytes() for part in parts), *(name + b"\0" for name in block.names)])
        named = sum(map(len, block.names)) + len(block.names)
        self._growing.append(BLOCK_HEADER.pack(len(block.names), named, zlib.crc32(data)) + data)
        self._growing.flush()

    def blocks(self) -> Iterator[Block]:
        """The blocks, one in memory at a time; none where the vectors were made with something else."""
        try:
            stream = open(self.file, "rb")
        except OSError:
            return
        with stream:
            try:
                header = json.loads(stream.readline(1 << 20))
                width = int(header["width"])
                if header["made_with"] != self.made_with or not 0 < width < 1 << 31:
                    return
            except (ValueError, KeyError, TypeError):
                return
            while (block := _read(stream, width)) is not None:
                yield block

    def remove(self) -> None:
        """What is in it is in the index."""
        if self._growing is not None:
            self._growing.close()
            self._growing = None
        self.file.unlink(missing_ok=True)


def _read(stream: BinaryIO, width: int) -> Block | None:
    """The next block; None at the end, and where it is torn."""
    head = stream.read(BLOCK_HEADER.size)
    if len(head) < BLOCK_HEADER.size:
        return None
    count, named, checksum = BLOCK_HEADER.unpack(head)
    marks_end = 16 * count
    size = marks_end + 4 * width * count + named
    if size > os.fstat(stream.fileno()).st_size - stream.tell():
        return None
    data = bytearray(stream.read(size))
    if not count or zlib.crc32(data) != checksum:
        return None
    names: Sequence[bytes] = bytes(data[-named:]).split(b"\0")[:-1]
    marks = torch.frombuffer(data, dtype=torch.int64, count=2 * count).view(-1, 2)
    vectors = torch.frombuffer(data, dtype=torch.float32, count=count * width, offset=marks_end).view(-1, width)
    return Block(list(names), marks, vectors)

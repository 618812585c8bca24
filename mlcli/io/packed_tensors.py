"""Decoded images that are more than memory may hold: in a file on disk, mapped so that they read as tensors do.

The system keeps as much of the file in memory as there is room for, and takes that memory back where it is needed.
"""

import shutil
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from mlcli.errors import UsageError
from mlcli.io.user_cache import user_cache

Layout = tuple[tuple[torch.dtype, torch.Size], ...]  # of the tensors of one item
ROOM = 0.9  # fraction of what is free on the disk that may be filled


class PackedTensors:
    """A sequence of tuples of tensors, each appended once, then read in any order.

    The file lies in the user's cache and has no name, so nothing of it is left when the process ends, however it does.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder cannot be written to."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.bytes = folder, 0
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  open as long as it is mapped
        self._data = torch.empty(0, dtype=torch.uint8)
        # Of a million images, which mostly have one layout, these take little memory
        self._begins, self._layouts = array("q"), array("q")
        self._known: dict[Layout, int] = {}
        self._of_number: list[Layout] = []

    @classmethod
    def opened(cls, expected_bytes: int = 0) -> Optional["PackedTensors"]:
        """An empty sequence; None where there is no folder for it, or not enough room on its disk."""
        try:
            packed = cls(user_cache("decoded images"))
            return packed if expected_bytes <= ROOM * shutil.disk_usage(packed.folder).free else None
        except (OSError, UsageError):
            return None

    def append(self, tensors: Sequence[Tensor]) -> Optional["PackedTensors"]:
        """Write the tensors of one item; returns the sequence, or None where the disk is full."""
        layout = tuple((tensor.dtype, tensor.shape) for tensor in tensors)
        self._begins.append(self.bytes)
        self._layouts.append(self._known.setdefault(layout, len(self._known)))
        try:
            for tensor in tensors:
                self.bytes = _aligned(self.bytes, tensor.element_size())
                self._file.seek(self.bytes)
                self._file.write(tensor.contiguous().numpy().data)
                self.bytes += tensor.nbytes
        except OSError:
            return None
        return self

    def mapped(self) -> Optional["PackedTensors"]:
        """The sequence, ready to be read; None where the last of it does not fit on the disk."""
        try:
            self._file.flush()
            if self.bytes:
                self._data = torch.from_numpy(np.memmap(self._file, np.uint8, "r+", shape=(self.bytes,)))
            self._of_number = list(self._known)
        except OSError:
            return None
        return self

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """The tensors of an item. They are the file's, and not to be changed."""
        begin, tensors = self._begins[index], []
        for dtype, shape in self._of_number[self._layouts[index]]:
            begin = _aligned(begin, dtype.itemsize)
            end = begin + shape.numel() * dtype.itemsize
            tensors.append(self._data[begin:end].view(dtype).view(shape))
            begin = end
        return tuple(tensors)


def _aligned(begin: int, size: int) -> int:
    """The next multiple of the size of a number, where numbers are read."""
    return -(-begin // size) * size

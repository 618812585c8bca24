"""Lists of paths that may have millions of entries."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload


class PathList(Sequence[Path]):
    """Paths in order, as one block of bytes: a million take some 70 MB, where objects take five times as much."""

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self._names = bytearray()
        self._ends = array("Q")
        self += paths

    def append(self, path: str | Path) -> None:
        self._names += os.fsencode(path)
        self._ends.append(len(self._names))

    def __iadd__(self, paths: Iterable[str | Path]) -> "PathList":
        for path in paths:
            self.append(path)
        return self

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        end = self._ends[index]
        index %= len(self)
        return Path(os.fsdecode(bytes(self._names[self._ends[index - 1] if index else 0 : end])))

    def __iter__(self) -> Iterator[Path]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    def __repr__(self) -> str:
        return f"PathList({list(self)!r})"

    def without_repeated(self) -> "PathList":
        """The first of each path, where relative and absolute ones are the same."""
        folder = os.getcwd()
        met: set[int] = set()
        several: set[int] = set()  # hashes of more than one path, perhaps of the same
        for path in self:
            found = hash(os.path.join(folder, path))
            (several if found in met else met).add(found)
        if not several:
            return self
        kept: dict[str, Path] = {}
        result = PathList()
        for path in self:
            absolute = os.path.join(folder, path)
            if hash(absolute) not in several or kept.setdefault(absolute, path) is path:
                result.append(path)
        return result

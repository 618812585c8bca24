"""What all archives have: an index of members by name, what was left out of it and why, and opening a member."""

import os
import re
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from mlcli.counting import counted
from mlcli.errors import ImageError
from mlcli.io import tally
from mlcli.printable import printable

SHOWN = 2  # members that a message names, of many
MEMBER_BYTES = 256 << 20  # of a member that has to be held in memory to be read
# Where the name of an archive can end within a path
IN_PATH = re.compile(r"\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2|txz|tzst|zip|parquet)(?=/|$)", re.IGNORECASE)
REPEATED = "with a name that occurs several times in its archive, of which the last is taken"
LABEL = ".cls"  # of a member that holds the class of the image beside it, in WebDataset shards


class Stamp(NamedTuple):
    """What tells one content of a file from another."""

    size: int
    modified: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class ArchiveError(Exception):
    """Why an archive, or a member of it, cannot be read; whoever knows the path as it was given puts it in front."""


class LeftOut:
    """Members that are left out of an index, by the reason."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, str], list[str]] = {}

    def add(self, name: str, reason: str, advice: str = "") -> None:
        """Leave out a member. reason: what is said of several: `links to what is no member`."""
        self.names.setdefault((reason, advice), []).append(name)

    def problems(self, path: str | os.PathLike[str]) -> list[ImageError]:
        """One error for each reason; each member is counted in the tally. path: of the archive, for the messages."""
        errors = []
        for (reason, advice), names in self.names.items():
            for name in names:
                tally.current().leave_out(f"{path}/{name}", "member{s} of archives that cannot be taken")
            told = f"{path}: {counted(len(names), 'member')} left out: {reason}{_first(names)}"
            errors.append(ImageError(f"{told}; {advice}" if advice else told))
        return errors


def _first(names: Sequence[str]) -> str:
    """The first of some names, in parentheses."""
    return f" ({', '.join(map(_shown, names[:SHOWN]))}{', …' if len(names) > SHOWN else ''})"


def _shown(name: str) -> str:
    return printable(name if len(name) <= 80 else name[:77] + "...")


def cleaned(name: str) -> str | None:
    """The name of a member without needless parts (`./a//b` -> `a/b`); None where it leads out of the archive."""
    if name[:1] not in "/." and "/." not in name and "//" not in name and ":" not in name[:2] and "\0" not in name:
        return name.rstrip("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:[\\/]", name) or "\0" in name:
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if ".." in parts else "/".join(parts)


@dataclass(frozen=True)
class MemberEntry:
    """A member, or a folder of members, as `os.scandir` would give it.

    size: in bytes, of a member.  image: whether it is known to be an image, whatever its name.
    """

    folder: str  # the path of the folder that it is in, the archive included
    name: str
    is_folder: bool
    size: int = 0
    image: bool = False

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    def is_dir(self) -> bool:
        return self.is_folder

    def is_file(self) -> bool:
        return not self.is_folder

    def is_symlink(self) -> bool:
        return False


class Archive(ABC):
    """The index of an archive.

    path: absolute.  stamp: of the file that was indexed.  names: of the members, sorted.
    left_out, repeated: the members that are not among them, and names that occur several times.
    front_to_back: whether to read an earlier member is to begin at the front again.
    images: whether every member is an image, whatever its name.  problem: why the index is not the whole one.
    """

    front_to_back = False
    images = False

    def __init__(self, path: str, stamp: Stamp) -> None:
        self.path, self.stamp = path, stamp
        self.names: list[str] = []
        self.repeated: list[str] = []
        self.left_out = LeftOut()
        self.problem = ""
        self.index()

    @abstractmethod
    def index(self) -> None:
        """Fill `names`. Raises ArchiveError for a file that is no such archive."""

    @abstractmethod
    def open(self, number: int) -> BinaryIO:
        """The bytes of the member at an index of `names`, to be closed by the caller. Raises ArchiveError."""

    @abstractmethod
    def size(self, number: int) -> int:
        """The bytes of the member at an index of `names`; those of the archive where they are not known."""

    @abstractmethod
    def position(self, number: int) -> int:
        """Where the member is in the archive, which orders them and changes where it moves."""

    def labels(self) -> dict[str, str] | None:
        """The class of each member that has one; None where the archive says nothing of classes.

        By default the content of a member `KEY.cls` is the class of the images `KEY.*` beside it.
        """
        if not (keyed := {_key(name): number for number, name in enumerate(self.names) if name.endswith(LABEL)}):
            return None
        classes: dict[str, str] = {}
        for key, number in sorted(keyed.items(), key=lambda item: self.position(item[1])):
            with self.open(number) as stream:
                classes[key] = stream.read(1000).decode("utf-8", "replace").strip()
        return {name: classes[_key(name)] for name in self.names if _key(name) in classes and not name.endswith(LABEL)}

    def find(self, name: str) -> int | None:
        """The index of a name in `names`."""
        number = bisect_left(self.names, name)
        return number if number < len(self.names) and self.names[number] == name else None

    def has_folder(self, inside: str) -> bool:
        """Whether there are members below a path in the archive; '' is the archive itself."""
        if not inside:
            return True
        number = bisect_left(self.names, inside + "/")
        return number < len(self.names) and self.names[number].startswith(inside + "/")

    def problems(self, path: str) -> list[ImageError]:
        """What was left out of the index, one error for each reason; counted in the tally. path: for the messages."""
        for name in self.repeated:
            tally.current().note(f"{path}/{name}", REPEATED)
        return [*self.left_out.problems(path), *([ImageError(f"{path}: {self.problem}")] if self.problem else [])]

    def entries(self, inside: str, folder: str) -> Iterator[MemberEntry]:
        """The members and folders directly below a path in the archive, sorted by name.

        inside: the path, '' of the archive itself.  folder: the path as the entries name it.
        """
        start = f"{inside}/" if inside else ""
        number = bisect_left(self.names, start)
        while number < len(self.names) and self.names[number].startswith(start):
            name, slash, _ = self.names[number][len(start) :].partition("/")
            if slash:
                yield MemberEntry(folder, name, True)
                number = bisect_left(self.names, f"{start}{name}0", number)  # 0 is the character after /
            else:
                if not name.endswith(LABEL):  # it belongs to an image
                    yield MemberEntry(folder, name, False, self.size(number), self.images)
                number += 1

    def descriptor(self) -> int:
        """The archive, opened. Raises OSError, or ArchiveError where it is not the one that was indexed any more."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if Stamp.of(os.fstat(descriptor)) != self.stamp:
            os.close(descriptor)
            raise ArchiveError("the archive has changed since its members were listed; run the command again")
        return descriptor


def _key(name: str) -> str:
    """The path of a member up to the first dot of its last part, by which WebDataset joins members."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


class IndexBuilder:
    """Collects the members of an archive in the order in which they are found, each with a row of numbers."""

    def __init__(self, left_out: LeftOut, columns: int) -> None:
        self.left_out = left_out
        self.names: list[str] = []
        self.repeated: list[str] = []
        self.columns = [array("Q") for _ in range(columns)]

    def accept(self, name: str) -> str | None:
        """The clean name of a member to take; None where its name says that it is to be left out, which is counted."""
        if (clean := cleaned(name)) is None:
            self.left_out.add(name, "names that lead out of the archive")
        elif not clean:
            self.left_out.add(name, "empty names")
        elif IN_PATH.search(clean, max(0, len(clean) - 12)) and IN_PATH.search(clean.rpartition("/")[2]):
            self.left_out.add(clean, "archives inside the archive", "unpack these, and name them on their own")
        else:
            return clean
        return None

    def add(self, name: str, *row: int) -> None:
        """Take a member, with its row of numbers."""
        self.names.append(name)
        for column, value in zip(self.columns, row, strict=True):
            column.append(value)

    def link(self, links: Sequence[tuple[str, str]]) -> None:
        """Take the links (name, name of their target), each with the row of its target; others are counted."""
        known = {name: number for number, name in enumerate(self.names)} if links else {}
        for name, target in links:
            if (number := known.get(target)) is None:
                self.left_out.add(name, "links to what is no member")
            else:
                self.add(name, *(column[number] for column in self.columns))

    def sorted(self) -> tuple[list[str], list["array[int]"]]:
        """(the names, sorted, each once; their columns). Of equal names the last is taken, as in unpacking."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        kept = [
            number
            for number, after in zip(order, [*order[1:], -1], strict=True)
            if after < 0 or self.names[number] != self.names[after]
        ]
        again = {self.names[number] for number in set(order).difference(kept)} if len(kept) < len(order) else set()
        self.repeated = sorted(again)
        return [self.names[number] for number in kept], [
            array("Q", map(column.__getitem__, kept)) for column in self.columns
        ]

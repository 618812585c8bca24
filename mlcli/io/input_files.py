"""The files that commands read: those of the file system, and members of archives, which are read in place.

A member has the path of its archive with its name in that below it, `shard-03.tar/cat/12.jpg`: an archive is a folder
that can only be read. Whatever reads a user's images asks here, and needs to know nothing of archives:

    is_folder("shard-03.tar/cat")            whether a path is a folder, or an archive or a folder in one
    split("shard-03.tar/cat")                the path of the archive, and that in it
    archive("shard-03.tar")                  its index: what is in it
    open_input("shard-03.tar/cat/12.jpg")    the bytes of a file or a member
    expanded("shard-{00..03}.tar")           the names that a shell would make of it
"""

import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from mlcli.errors import ImageError, UsageError
from mlcli.io.archives.archive import IN_PATH, Archive, ArchiveError, Stamp

MOST_NAMES = 100_000  # that one pattern is expanded to

_archives: dict[str, tuple[Stamp, Archive | ArchiveError]] = {}  # by absolute path
_lock = threading.Lock()


# ------------------------------------------------------------------------------------------ paths into archives


def split(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """(the path of the archive, the path in it: '' for the archive itself) of a path into one; None for other paths."""
    text = os.fspath(path)
    for end in IN_PATH.finditer(text):
        try:
            mode = os.stat(text[: end.end()]).st_mode
        except (OSError, ValueError):
            return None
        if not stat.S_ISDIR(mode):
            return (text[: end.end()], text[end.end() :].strip("/")) if stat.S_ISREG(mode) else None
    return None


def file_behind(path: str | os.PathLike[str]) -> str:
    """The file whose times tell whether a file has changed: itself, or the archive that it is a member of."""
    parts = split(path)
    return parts[0] if parts else os.fspath(path)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, an archive, a folder in an archive, or a pattern of archives."""
    if os.path.isdir(path):
        return True
    if parts := split(path):
        try:
            return not parts[1] or archive(parts[0]).has_folder(parts[1])
        except ImageError:
            return False
    names = expanded(path)
    return names != [os.fspath(path)] and all(map(is_folder, names))


def archive(path: str, *, fresh: bool = False) -> Archive:
    """The index of an archive, which is made once. fresh: made again where the file has changed since.

    Raises ImageError where it cannot be read.
    """
    key = os.path.abspath(path)
    with _lock:
        known = _archives.get(key)
        if known is None or fresh:
            try:
                stamp = Stamp.of(os.stat(key))
                if known is None or known[0] != stamp:
                    known = _archives[key] = (stamp, _indexed(key, stamp))
            except OSError as error:
                raise ImageError(f"{path}: cannot be opened: {error.strerror or error}") from None
    if isinstance(known[1], ArchiveError):
        raise ImageError(f"{path}: {known[1]}")
    return known[1]


def renew(path: str | os.PathLike[str]) -> None:
    """Index the archive that a path leads into again, where it has changed since."""
    if parts := split(path):
        with suppress(ImageError):  # who reads the path says so
            archive(parts[0], fresh=True)


def _indexed(path: str, stamp: Stamp) -> Archive | ArchiveError:
    from mlcli.io.archives.parquet_archive import ParquetArchive
    from mlcli.io.archives.tar_archive import TarArchive
    from mlcli.io.archives.zip_archive import ZipArchive

    kinds: dict[str, Callable[[str, Stamp], Archive]] = {".zip": ZipArchive, ".parquet": ParquetArchive}
    try:
        return kinds.get(os.path.splitext(path)[1].lower(), TarArchive)(path, stamp)
    except ArchiveError as error:
        return error


# ------------------------------------------------------------------------------------------------ reading


def open_input(path: str | os.PathLike[str]) -> BinaryIO:
    """The bytes of a file, or of a member of an archive, which can be sought in.

    Raises OSError as `open` does, and ImageError for a member that cannot be read.
    """
    try:
        return open(path, "rb")
    except (NotADirectoryError, FileNotFoundError):
        parts = split(path)
        if not parts or not parts[1]:
            raise
    index, number = _member(path, *parts)
    try:
        return index.open(number)
    except ArchiveError as error:
        raise ImageError(f"{path}: {error}") from None


def mark(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(size in bytes, a number that is another after a change) of a file or a member; None where there is none.

    The number of a file is its time of change in ns, that of a member a hash of the time and size of its archive and
    of where it is in that.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        if not (parts := split(path)):
            return None
        try:
            index, number = _member(path, *parts)
        except ImageError:
            return None
        text = f"{index.stamp.modified} {index.stamp.size} {index.position(number)}"
        return index.size(number), int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _member(path: str | os.PathLike[str], file: str, inside: str) -> tuple[Archive, int]:
    index = archive(file)
    if (number := index.find(inside)) is None:
        what = "a folder in an archive, not an image" if index.has_folder(inside) else "no such member of the archive"
        raise ImageError(f"{path}: {what}")
    return index, number


# ------------------------------------------------------------------------------------------------ listing


def labels(path: str | os.PathLike[str]) -> dict[Path, str]:
    """The class of each member below a path that an archive names it for; empty where it names none.

    Raises ImageError where the archive cannot be read.
    """
    if not (parts := split(path)):
        return {}
    file, inside = parts
    try:
        found = archive(file, fresh=True).labels()
    except (ArchiveError, OSError) as error:
        raise ImageError(f"{file}: {error}") from None
    start = f"{inside}/" if inside else ""
    return {Path(file) / name: label for name, label in (found or {}).items() if name.startswith(start)}


def folders(path: str | os.PathLike[str]) -> list[str]:
    """The names of the folders in a folder, or in an archive; not the hidden ones. Raises OSError and ImageError."""
    if parts := split(path):
        found = archive(parts[0]).entries(parts[1], os.fspath(path))
        return [entry.name for entry in found if entry.is_folder and not entry.name.startswith(".")]
    with os.scandir(path) as listed:
        return [entry.name for entry in listed if not entry.name.startswith(".") and entry.is_dir()]


def in_reading_order(paths: list[Path], parts: tuple[str, str] | None) -> list[Path]:
    """The paths in the order in which they are best read. parts: of `split` for all of them."""
    if not (parts and archive(parts[0]).front_to_back):
        return paths
    index = archive(parts[0])
    file = Path(parts[0])
    return sorted(paths, key=lambda path: index.position(index.find(path.relative_to(file).as_posix()) or 0))


# ------------------------------------------------------------------------------------------------ patterns

_BRACES = re.compile(r"\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|(?P<names>[^{}]*,[^{}]*))\}")


def expanded(name: str | os.PathLike[str]) -> list[str]:
    """The names that a shell makes of `shards-{000..099}.tar` or `{train,val}.tar`, in order; else the name alone.

    For where the shell has not: in quotes, in Python, in a Makefile. A name that is there is left as it is. Raises
    UsageError for a pattern of too many names.
    """
    names = [os.fspath(name)]
    if "{" not in names[0] or os.path.lexists(names[0]):
        return names
    while _BRACES.search(names[0]):
        names = list(islice((each for name in names for each in _alternatives(name)), MOST_NAMES + 1))
        if len(names) > MOST_NAMES:
            raise UsageError(f"{os.fspath(name)}: stands for more than {MOST_NAMES:,} names")
    return names


def _alternatives(name: str) -> Iterator[str]:
    """The names with each value of the first braces."""
    found = _BRACES.search(name)
    assert found is not None
    front, back = name[: found.start()], name[found.end() :]
    if found["names"] is not None:
        values = iter(found["names"].split(","))
    else:
        first, last = int(found["first"]), int(found["last"])
        width = len(found["first"]) if found["first"][0] == "0" else 0
        step = 1 if last >= first else -1
        values = (f"{number:0{width}d}" for number in range(first, last + step, step))
    return (f"{front}{value}{back}" for value in values)

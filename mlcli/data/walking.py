"""Walking through folders and archives: which images are in them, and what is left out and why.

A file with the ending of an image is included without being opened; one with the ending of something else is left out;
of all others the first bytes are read. Hidden names (with a leading dot) are skipped, and so are the folders that
operating systems and network disks make.
"""

import os
import stat
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mlcli.counting import counted
from mlcli.errors import ImageError
from mlcli.imaging import formats
from mlcli.io import input_files, tally
from mlcli.io.archives.archive import MemberEntry

# Thumbnails, waste, snapshots and lost files: of Synology and QNAP disks, macOS archives, Windows, Linux, NetApp
SYSTEM_FOLDERS = frozenset(
    name.casefold()
    for name in (
        "@eaDir",
        "@tmp",
        "@Recycle",
        "@Recently-Snapshot",
        "#recycle",
        "#snapshot",
        "~snapshot",
        "__MACOSX",
        "Network Trash Folder",
        "Temporary Items",
        "$RECYCLE.BIN",
        "RECYCLER",
        "System Volume Information",
        "FOUND.000",
        "lost+found",
    )
)
LISTED = 2  # files that a message names, of many
MEMBER = formats.Format("an image of a data set")  # of which nothing else is known

Entry = os.DirEntry[str] | MemberEntry


def special_kind(mode: int) -> str:
    """The kind of a special file, by its mode: pipe, socket or device; empty for regular files and folders."""
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))
    return next((name for test, name in kinds if test(mode)), "")


def special_problem(path: Path) -> ImageError | None:
    """The error for a named pipe, socket or device, which is counted as left out; None for other files."""
    try:
        kind = special_kind(os.stat(path).st_mode)
    except (OSError, ValueError):  # the reader says why
        return None
    if not kind or is_own_stream(path):
        return None
    tally.current().leave_out(path, "special file{s}", kind)
    return ImageError(f"{path}: a {kind}, not an image; left out")


def is_own_stream(path: Path) -> bool:
    """Whether a path stands for an open file of this process: /dev/stdin, or the path of a shell's <(command)."""
    return str(path) == "/dev/stdin" or str(path).startswith(("/dev/fd/", "/proc/self/fd/"))


@dataclass
class Listing:
    """The content of one folder: real folders, links to folders, and images."""

    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


class Walker:
    """Walks below one root, a folder or an archive, once or several times. What is left out is counted in the tally.

    unlisted: an ImageError for each folder that could not be listed. problems: these, and one for each special file,
    for each format that cannot be read, and for each reason for which members of an archive cannot be taken.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.archive = input_files.split(root)
        self.unlisted: list[ImageError] = []
        self._members: list[ImageError] = []
        self._empty: list[str] = []
        self._special: list[ImageError] = []
        self._unread: dict[formats.Format, list[str]] = defaultdict(list)
        self._seen: set[tuple[int, int]] = set()  # folders by device and inode, so that links to them are recognized

    @property
    def problems(self) -> list[ImageError]:
        return [*self.unlisted, *self._special, *self._members, *self._without_bytes(), *self.unread]

    @property
    def unread(self) -> list[ImageError]:
        """An error for each format that cannot be read, which says what would read it."""
        problems = []
        for kind, names in self._unread.items():
            first = ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
            problems.append(
                ImageError(
                    f"{self.root}: {counted(len(names), 'image')} in the format {kind.name}, left out ({first}); "
                    f"{kind.remedy}"
                )
            )
        return problems

    def _without_bytes(self) -> list[ImageError]:
        if not self._empty:
            return []
        first = ", ".join(self._empty[:LISTED]) + (", …" if len(self._empty) > LISTED else "")
        return [ImageError(f"{self.root}: {counted(len(self._empty), 'image')} of 0 bytes, left out ({first})")]

    def images(self, inside: str = "") -> list[Path]:
        """The images below the root, or below a folder in it, sorted by their path.

        Those of an archive that is read from front to back are in its order. Each folder is listed once. Links are
        followed after all real folders, so an image has its path without links where there is one.
        """
        self._seen.clear()
        names: list[str] = []
        real, links = deque([inside]), deque[str]()
        while real or links:
            found = self.listing(real.popleft() if real else links.popleft())
            names += found.images
            real += found.folders
            links += found.links
        return input_files.in_reading_order([self.root / name for name in sorted(names)], self.archive)

    def listing(self, inside: str = "") -> Listing:
        """The content of one folder, as paths from the root; empty for a folder that this walk has listed before."""
        found, folder = Listing(), self.root / inside
        entries: Iterable[Entry]
        try:
            if self.archive:
                entries = self._members_of(folder)
            else:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in self._seen:
                    return found
                self._seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as found_entries:
                    entries = sorted(found_entries, key=lambda entry: entry.name)
        except OSError as error:
            self.unlisted.append(ImageError(f"{folder}: cannot be listed: {error.strerror or error}"))
            return found
        except ImageError as error:
            self.unlisted.append(error)
            return found
        raw = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(inside, entry.name)
            if _is(entry.is_dir):
                if entry.name.casefold() in SYSTEM_FOLDERS:
                    tally.current().leave_out(entry.path, tally.SYSTEM, entry.name)
                else:
                    (found.links if entry.is_symlink() else found.folders).append(name)
            elif not _is(entry.is_file):
                self._no_file(entry, name, found)
            elif (kind := self._format(entry)) is None:
                continue
            elif isinstance(entry, MemberEntry) and not entry.size:
                self._empty.append(name)
                tally.current().leave_out(entry.path, "image{s} of 0 bytes")
            elif not kind.remedy:
                found.images.append(name)
            elif kind.name == formats.RAW:
                raw.append((entry, name, kind))
            else:
                self._leave_out(entry, name, kind)
        stems = {os.path.splitext(name)[0].casefold() for name in found.images}
        for entry, name, kind in raw:
            if os.path.splitext(name)[0].casefold() in stems:  # of a camera that writes both
                tally.current().leave_out(entry.path, "raw image{s} beside the developed")
            else:
                self._leave_out(entry, name, kind)
        return found

    def _members_of(self, folder: Path) -> Iterable[MemberEntry]:
        """The entries of an archive, or of a folder in it; what was left out of the archive is noted once."""
        assert self.archive is not None
        file, _ = self.archive
        index = input_files.archive(file, fresh=True)
        self._members = self._members or index.problems(file)
        return index.entries(folder.relative_to(file).as_posix().removeprefix("."), str(folder))

    def _format(self, entry: Entry) -> formats.Format | None:
        """The format of a regular file, by its ending or its first bytes; None if it is no image, which is counted."""
        if kind := formats.format_of_ending(entry.name):
            return kind
        if isinstance(entry, MemberEntry) and entry.image:
            return MEMBER
        if not formats.is_other(entry.name):
            try:
                kind = formats.sniff(entry.path)
            except (OSError, ImageError):
                tally.current().leave_out(entry.path, "file{s} that may not be read")
                return None
            if kind:
                if not kind.remedy:
                    tally.current().note(entry.path, "recognized by the first bytes, not by the name")
                return kind
        tally.current().leave_out(entry.path, tally.OTHER, formats.ending(entry.name) or "without an ending")
        return None

    def _leave_out(self, entry: Entry, name: str, kind: formats.Format) -> None:
        self._unread[kind].append(name)
        tally.current().leave_out(entry.path, "image{s} in formats that are not read", kind.name)

    def _no_file(self, entry: Entry, name: str, found: Listing) -> None:
        """Count an entry that is neither a folder nor a regular file: a broken link, a pipe, a socket or a device."""
        named = formats.format_of_ending(entry.name)
        if entry.is_symlink() and not os.path.exists(entry.path):
            if named and not named.remedy:
                found.images.append(name)  # reading it reports the broken link
            else:
                tally.current().leave_out(entry.path, "link{s} to nowhere")
            return
        try:
            kind = special_kind(os.stat(entry.path).st_mode)
        except OSError:
            kind = ""
        self._special.append(ImageError(f"{entry.path}: a {kind or 'special file'}, not an image; left out"))
        tally.current().leave_out(entry.path, "special file{s}", kind)


def _is(test: Callable[[], bool]) -> bool:
    """The result of a test of a directory entry; False where it fails."""
    try:
        return test()
    except OSError:  # a link that points to itself
        return False

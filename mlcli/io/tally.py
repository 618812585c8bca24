"""What became of the files that a command met: how many images were read, what was left out and why.

Whatever walks through folders or reads images notes here what it does, from any thread, as a library does with
`logging`; what is wrong is still returned or raised where it is found. Whoever runs a command calls `begin` before it
and asks `summary` after it.
"""

import os
import threading
from collections import Counter, defaultdict

from mlcli.counting import counted

LISTED = 4  # kinds that are named of one reason
OTHER, SYSTEM = "other file{s}", "folder{s} of the system"  # reasons of what is no image


class Tally:
    """Counts files, each once, however often it is met. Of a path only its hash is kept: there may be millions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: set[int] = set()
        self._left_out: dict[str, dict[int, str]] = defaultdict(dict)  # reason: {file: which kind of it}
        self._noted: dict[str, set[int]] = defaultdict(set)
        self._example: dict[str, str] = {}

    def add_read(self, path: str | os.PathLike[str]) -> None:
        """An image was decoded."""
        self._read.add(_key(path))

    def leave_out(self, path: str | os.PathLike[str], reason: str, kind: str = "") -> None:
        """A file, or a folder, was left out.

        reason: what follows the number of files, with {s} for a plural. kind: which kind of it.
        """
        with self._lock:
            self._left_out[reason].setdefault(_key(path), kind)

    def note(self, path: str | os.PathLike[str], what: str) -> None:
        """Something to be said of an image that was read. what: what follows the number of such images."""
        with self._lock:
            self._noted[what].add(_key(path))
            self._example.setdefault(what, os.fspath(path))

    @property
    def met_images(self) -> bool:
        """Whether there was any image, read or not, besides files that are none."""
        return bool(self._read or self._left_out.keys() - {OTHER, SYSTEM})

    def summary(self) -> str:
        """`20 images read; left out: 2 images that cannot be read, 3 other files (2 .txt, 1 .json)`; or empty."""
        with self._lock:
            left_out = {reason: dict(files) for reason, files in self._left_out.items() if files}
            lost = {file for files in left_out.values() for file in files}
            read = len(self._read - lost)
            if not read and not left_out:
                return ""
            text = f"{counted(read, 'image')} read"
            if left_out:
                order = sorted(left_out, key=(OTHER, SYSTEM).__contains__)  # images before what is none
                text += "; left out: " + ", ".join(_counted(reason, left_out[reason]) for reason in order)
            for what, files in self._noted.items():
                if files - lost:
                    text += f"; {len(files - lost):,} {what} ({self._example[what]}{', …' * (len(files - lost) > 1)})"
        return text


def _key(path: str | os.PathLike[str]) -> int:
    return hash(os.path.abspath(path))


def _counted(reason: str, files: dict[int, str]) -> str:
    kinds = Counter(kind for kind in files.values() if kind)
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(LISTED))
    more = f" and {counted(len(kinds) - LISTED, 'more kind')}" if len(kinds) > LISTED else ""
    return f"{len(files):,} {reason.format(s='s' * (len(files) != 1))}" + (f" ({listed}{more})" if kinds else "")


_current = Tally()


def current() -> Tally:
    """The tally of the command that runs."""
    return _current


def begin() -> Tally:
    """Start counting from zero."""
    global _current
    _current = Tally()
    return _current

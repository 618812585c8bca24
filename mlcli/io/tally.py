"""What became of the files that a command met: how many images were read, what was left out and why.

Whatever walks through folders or reads images notes here what it does, from any thread, as a library does with
`logging`; what is wrong is still returned or raised where it is found. Whoever runs a command calls `begin` before it
and asks `summary` after it.
"""

import os
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from mlcli.counting import counted

LISTED = 4  # kinds that are named of one reason
OTHER, SYSTEM = "other file{s}", "folder{s} of the system"  # reasons of what is no image


@dataclass
class _Met:
    """Files that were met, by the hashes of their paths.

    left_out: reason: {file: which kind of it}.  noted: what is said of it: files.
    """

    read: set[int] = field(default_factory=set)
    left_out: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    noted: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def joined(self, other: "_Met") -> "_Met":
        """The files of both."""
        result = _Met(self.read | other.read)
        for each in (self, other):
            for reason, files in each.left_out.items():
                for file, kind in files.items():
                    result.left_out[reason].setdefault(file, kind)
            for what, noted in each.noted.items():
                result.noted[what] |= noted
        return result


@dataclass
class Counts:
    """Numbers of files.  left_out: by reason and kind.  noted: by what is said of them.  examples: a path of each."""

    read: int = 0
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    noted: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        """Add the numbers of other files."""
        self.read += other.read
        for reason, kinds in other.left_out.items():
            self.left_out[reason] += kinds
        self.noted += other.noted
        self.examples = other.examples | self.examples

    @classmethod
    def of(cls, met: _Met) -> "Counts":
        """The numbers of files that were met; what was read and could not serve is left out."""
        left_out = {reason: Counter(files.values()) for reason, files in met.left_out.items() if files}
        lost = {file for files in met.left_out.values() for file in files}
        noted = Counter({what: len(files - lost) for what, files in met.noted.items() if files - lost})
        return cls(len(met.read - lost), defaultdict(Counter, left_out), noted)


class Tally:
    """Counts files, each once, however often it is met. Of a path only its hash is kept: there may be thousands.

    Where there may be millions, `settle` keeps numbers alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now, self._before = _Met(), _Met()
        self._settled = Counts()
        self._example: dict[str, str] = {}

    def add_read(self, path: str | os.PathLike[str]) -> None:
        """An image was decoded."""
        self._now.read.add(_key(path))

    def leave_out(self, path: str | os.PathLike[str], reason: str, kind: str = "") -> None:
        """A file, or a folder, was left out.

        reason: what follows the number of files, with {s} for a plural. kind: which kind of it.
        """
        with self._lock:
            self._now.left_out[reason].setdefault(_key(path), kind)

    def note(self, path: str | os.PathLike[str], what: str) -> None:
        """Something to be said of an image that was read. what: what follows the number of such images."""
        with self._lock:
            self._now.noted[what].add(_key(path))
            self._example.setdefault(what, os.fspath(path))

    def settle(self) -> None:
        """Forget the files that were met before the last call of this: none of them is met again.

        Their numbers are kept. What was met since is kept as files, since other threads may be at work on them.
        """
        with self._lock:
            self._settled.add(Counts.of(self._before))
            self._before, self._now = self._now, _Met()

    def counts(self) -> Counts:
        """The numbers of all files so far."""
        with self._lock:
            total = Counts.of(self._before.joined(self._now))
            total.add(self._settled)
            total.examples = self._example | total.examples
        return total

    def add(self, counts: Counts) -> None:
        """Add what other processes have counted, of other files."""
        with self._lock:
            self._settled.add(counts)

    @property
    def met_images(self) -> bool:
        """Whether there was any image, read or not, besides files that are none."""
        counts = self.counts()
        return bool(counts.read or counts.left_out.keys() - {OTHER, SYSTEM})

    def summary(self) -> str:
        """`20 images read; left out: 2 images that cannot be read, 3 other files (2 .txt, 1 .json)`; or empty."""
        counts = self.counts()
        if not counts.read and not counts.left_out:
            return ""
        text = f"{counted(counts.read, 'image')} read"
        if counts.left_out:
            order = sorted(counts.left_out, key=(OTHER, SYSTEM).__contains__)  # images before what is none
            text += "; left out: " + ", ".join(_counted(reason, counts.left_out[reason]) for reason in order)
        for what, number in counts.noted.items():
            text += f"; {number:,} {what} ({counts.examples[what]}{', …' * (number > 1)})"
        return text


def _key(path: str | os.PathLike[str]) -> int:
    return hash(os.path.abspath(path))


def _counted(reason: str, files: Counter[str]) -> str:
    kinds = Counter({kind: number for kind, number in files.items() if kind})
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(LISTED))
    more = f" and {counted(len(kinds) - LISTED, 'more kind')}" if len(kinds) > LISTED else ""
    number = files.total()
    return f"{number:,} {reason.format(s='s' * (number != 1))}" + (f" ({listed}{more})" if kinds else "")


_current = Tally()


def current() -> Tally:
    """The tally of the command that runs."""
    return _current


def begin() -> Tally:
    """Start counting from zero."""
    global _current
    _current = Tally()
    return _current

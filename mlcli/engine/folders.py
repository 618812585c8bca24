"""Folders of pictures: which files there are, and what class each has."""

import difflib
import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from mlcli.engine import images
from mlcli.engine.class_names import ClassNames, normalized
from mlcli.errors import DataError, ImageError, MlcliError, UsageError


@dataclass
class Found:
    """What `find_images` met: the pictures in order, and the folders that could not be listed."""

    paths: list[Path] = field(default_factory=list)
    problems: list[ImageError] = field(default_factory=list)


def find_images(inputs: Sequence[str | Path], *, stdin: BinaryIO | None = None) -> Found:
    """The pictures that `inputs` name, in the order given, none twice.

    A file is taken whatever its ending, and even if it is not there: `images.read` says so later, by name.
    A folder is walked recursively, linked folders and link loops included; hidden names (leading dot) are
    skipped, endings outside `images.EXTENSIONS` too; its pictures are sorted by their path inside it. `-`
    stands for the paths on `stdin` (default: the process's), one a line or NUL-separated.
    """
    found = Found()
    for given in inputs:
        if not str(given):
            # an unset variable of a script, which Path takes for the current folder
            raise UsageError("an empty name among the images; name files or folders, or . for this folder")
        for path in _from_stdin(stdin) if str(given) == "-" else [Path(given)]:
            if os.path.isdir(path):  # which takes a name that is too long for "no", unlike Path.is_dir
                found.paths += _walk(path, found.problems)
            else:
                found.paths.append(path)
    first: dict[Path, Path] = {}
    for path in found.paths:
        first.setdefault(path.absolute(), path)
    found.paths = list(first.values())
    return found


def places(paths: Sequence[str | Path], among: Sequence[str | Path]) -> Tensor:
    """(N,) int64: the place of each path's file in `among`, -1 where it is not there.

    A folder reached by a link is the same folder, and a link given among `paths` is the file that it leads to.
    """
    real_folder = cache(os.path.realpath)

    def plain(path: str | Path) -> str:
        folder, name = os.path.split(os.path.abspath(path))
        return os.path.join(real_folder(folder), name)

    known = {plain(path): place for place, path in reversed(list(enumerate(among)))}
    return torch.tensor(
        [known.get(plain(path), known.get(os.path.realpath(path), -1)) for path in paths], dtype=torch.int64
    )


def _from_stdin(stdin: BinaryIO | None) -> list[Path]:
    try:
        data = (stdin or sys.stdin.buffer).read()
    except OSError as error:  # open for writing alone, or a terminal that is gone
        raise MlcliError(f"-: standard input cannot be read: {error.strerror or error}") from None
    names = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [Path(os.fsdecode(name)) for name in names if name]


def _walk(root: Path, problems: list[ImageError]) -> list[Path]:
    """The pictures below `root`, sorted by their path inside it; what cannot be listed goes to `problems`.

    Each folder is listed once, whatever links lead to it. Links wait until all real folders are done, so a
    picture keeps the name that it has without them.
    """
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    real, links = deque([""]), deque()
    while real or links:
        inside = real.popleft() if real else links.popleft()
        try:
            status = os.stat(root / inside)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / inside) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(ImageError(f"{root / inside}: cannot be listed: {error.strerror or error}"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(inside, entry.name)
            if _is(entry.is_dir):
                (links if entry.is_symlink() else real).append(name)
            elif os.path.splitext(entry.name)[1].lower() in images.EXTENSIONS:
                # A link that leads nowhere stays in the list, so that it is reported; pipes and such do not.
                if _is(entry.is_file) or (entry.is_symlink() and not os.path.exists(entry.path)):
                    names.append(name)
    return [root / name for name in sorted(names)]


def _is(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:  # a link that points at itself
        return False


@dataclass(frozen=True)
class ClassFolder:
    """A labelled data set: a folder with one folder of pictures for each class.

    paths[i] is of class classes[labels[i]].
    """

    root: Path
    classes: tuple[str, ...]
    paths: list[Path]
    labels: list[int]

    @classmethod
    def open(cls, root: str | Path, classes: Sequence[str] | ClassNames | None = None) -> "ClassFolder":
        """List root/CLASS/**. The classes are the folder names, sorted.

        With `classes`, those of a trained model, folders are matched to them by label, WordNet id, synonym or number,
        and some may be absent. Names compare after Unicode normalization; folders that stand for one class are one.
        Raises DataError if there is no such folder, no class in it, a class without pictures, a folder that
        cannot be listed, or one that is none of `classes` or could be several.
        """
        root = Path(root)
        if not os.path.isdir(root):
            raise DataError(f"{root}: {'a file, not a' if os.path.exists(root) else 'no such'} folder")
        try:
            folders = sorted(e.name for e in os.scandir(root) if not e.name.startswith(".") and _is(e.is_dir))
        except OSError as error:
            raise DataError(f"{root}: cannot be listed: {error.strerror or error}") from error
        if not folders:
            raise DataError(f"{root}: no class folders in it; put the pictures of each class into one")
        if classes is None:
            classes = list({normalized(name): name for name in reversed(folders)}.values())[::-1]
        known = classes if isinstance(classes, ClassNames) else ClassNames(tuple(classes))
        found = {name: known.matches(name) for name in folders}
        unknown = [name for name in folders if not found[name]]
        if unknown:
            raise DataError(f"{root}: {_nearest(unknown, known)}")
        for name, numbers in found.items():
            if len(numbers) > 1:
                raise DataError(f"{root}: {known.ambiguity(name, numbers)}")

        paths: list[Path] = []
        labels: list[int] = []
        empty: list[str] = []
        problems: list[ImageError] = []
        for name in folders:
            inside = _walk(root / name, problems)
            if not inside:
                empty.append(name)
            paths += inside
            labels += found[name] * len(inside)
        if problems:
            raise DataError(str(problems[0]))
        if empty:
            raise DataError(f"{root}: no pictures for {_listed(empty)}; add some or remove the folder")
        return cls(root, known.labels, paths, labels)

    @classmethod
    def of_one(cls, paths: Sequence[str | Path]) -> "ClassFolder":
        """Pictures without labels, as a data set of one class that has no name."""
        paths = [Path(path).absolute() for path in paths]
        return cls(Path(os.path.commonpath([path.parent for path in paths])), ("",), paths, [0] * len(paths))

    def require_classes(self, least: int) -> None:
        """Raise DataError where there are fewer classes."""
        if len(self.classes) < least:
            raise DataError(f"{self.root}: holds {len(self.classes)} class, {least} are needed; one folder a class")

    def split(self, share: float, seed: int, *, keep_single: bool = False) -> tuple["ClassFolder", "ClassFolder"]:
        """(rest, held out): the share (0 to 1) of each class, but at least one picture to each side, by the seed.

        A class of one picture is a DataError, or stays with the rest if `keep_single`.
        """
        random = torch.Generator().manual_seed(seed)
        labels = torch.tensor(self.labels)
        held: set[int] = set()
        for label in labels.unique().tolist():
            members = (labels == label).nonzero()[:, 0]
            if len(members) < 2:
                if keep_single:
                    continue
                raise DataError(f"{self.root}: {self.classes[label]!r} has one picture, too few to hold one out")
            count = min(len(members) - 1, max(1, round(share * len(members))))
            chosen = torch.randperm(len(members), generator=random)[:count]
            held.update(members[chosen].tolist())
        return self.part(i for i in range(len(labels)) if i not in held), self.part(sorted(held))

    def part(self, indices: Iterable[int]) -> "ClassFolder":
        """The same classes with these of the pictures, in this order."""
        indices = list(indices)
        return replace(self, paths=[self.paths[i] for i in indices], labels=[self.labels[i] for i in indices])

    def without(self, labels: Set[int]) -> "ClassFolder":
        """The data set without these classes, the others numbered anew."""
        kept = [label for label in range(len(self.classes)) if label not in labels]
        number = {label: index for index, label in enumerate(kept)}
        part = self.part(index for index, label in enumerate(self.labels) if label in number)
        names, numbers = tuple(self.classes[label] for label in kept), [number[label] for label in part.labels]
        return replace(part, classes=names, labels=numbers)

    def digest(self) -> str:
        """SHA-256 over the names inside the root and the sizes in bytes: tells one list from another."""
        return digest(self.paths, self.root)


def spread(count: int | None, total: int) -> list[int]:
    """At most `count` indices spread evenly over `total`, so that of files sorted by class each has its share."""
    count = total if count is None else min(count, total)
    return [index * total // count for index in range(count)]


def digest(paths: Iterable[Path], root: Path | None = None) -> str:
    """SHA-256 over the names, as they are or inside a root, and the sizes in bytes: tells one list from another."""
    total = hashlib.sha256()
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError:
            size = -1  # a link that leads nowhere
        name = path.relative_to(root) if root else path
        total.update(os.fsencode(name.as_posix()) + b"\0%d\0" % size)
    return total.hexdigest()


def _nearest(unknown: list[str], known: ClassNames) -> str:
    near = difflib.get_close_matches(unknown[0], known.labels, n=3, cutoff=0.0)
    return f"{_listed(unknown)}: none of the model's {len(known.labels)} classes; nearest to it: {', '.join(near)}"


def _listed(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more

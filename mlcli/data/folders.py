"""Images of files and folders, and data sets with a folder for each class."""

import difflib
import hashlib
import os
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.data import class_images
from mlcli.data.class_names import ClassNames, normalized
from mlcli.data.walking import SYSTEM_FOLDERS
from mlcli.errors import DataError, ImageError, MlcliError
from mlcli.io import input_files, tally


def positions(paths: Sequence[str | Path], among: Sequence[str | Path]) -> Tensor:
    """(N,) int64: the index of each path's file in `among`, -1 where it is not in there.

    A folder that is reached by a link is the same folder; a link among `paths` is the file that it leads to.
    """
    real_folder = cache(os.path.realpath)

    def plain(path: str | Path) -> str:
        folder, name = os.path.split(os.path.abspath(path))
        return os.path.join(real_folder(folder), name)

    known = {plain(path): index for index, path in reversed(list(enumerate(among)))}
    return torch.tensor(
        [known.get(plain(path), known.get(os.path.realpath(path), -1)) for path in paths], dtype=torch.int64
    )


# Names of the parts of a divided data set
TRAINING = ("train", "training")
HELD_OUT = ("val", "valid", "validation", "dev", "eval", "test", "testing")


class DividedError(DataError):
    """The root of a data set that is divided into parts was given in place of one of the parts.

    training, held_out: the folders of its parts; None for a part that is missing.
    """

    def __init__(self, root: Path, training: Path | None, held_out: Path | None) -> None:
        self.root, self.training, self.held_out = root, training, held_out
        parts = [part for part in (training, held_out) if part]
        names = " and ".join(f"{part.name}/" for part in parts)
        super().__init__(
            f"{root}: holds {names}, parts of a divided data set and no classes; name {' or '.join(map(str, parts))}"
        )


def refuse_divided(root: Path, names: Sequence[str]) -> None:
    """Raise DividedError where the folders `names` in `root` are parts of a data set rather than classes.

    They are parts if there are no other folders, or if a training part and another part hold folders of equal names.
    """
    known = {name.casefold(): name for name in names}
    training = next((root / known[name] for name in TRAINING if name in known), None)
    held_out = next((root / known[name] for name in HELD_OUT if name in known), None)
    others = known.keys() - {*TRAINING, *HELD_OUT}
    if not others and (len(known) > 1 or any(_folders(root / name) for name in names)):
        raise DividedError(root, training, held_out)
    if training and held_out and _folders(training) & _folders(held_out):
        raise DividedError(root, training, held_out)


def _folders(folder: Path) -> set[str]:
    """The normalized names of the user's folders in a folder; empty if it cannot be listed."""
    try:
        names = input_files.folders(folder)
    except (OSError, ImageError):
        return set()
    return {normalized(name) for name in names if name.casefold() not in SYSTEM_FOLDERS}


@dataclass(frozen=True)
class ClassFolder:
    """A labeled data set: a folder or an archive with one folder of images for each class, or a list of classes.

    paths[i] has the class classes[labels[i]]. problems: what was left out of the folder and why; parts of the data set
    do not repeat it. listed: whether something else than the paths says which class an image has.
    """

    root: Path
    classes: tuple[str, ...]
    paths: list[Path]
    labels: list[int]
    problems: tuple[MlcliError, ...] = ()
    listed: bool = False

    @classmethod
    def open(cls, root: str | Path, classes: Sequence[str] | ClassNames | None = None) -> "ClassFolder":
        """List root/CLASS/**. The classes are the folder names, sorted.

        root: a folder, an archive, or a pattern of archives. Where an archive says itself which class an image has
        (members `.cls`, a column of labels), or root is a list in CSV, that takes the part of the folders.
        With `classes`, those of a trained model, folders are matched to them by label, WordNet id, synonym or number,
        and classes may be missing. Names compare after Unicode normalization; several folders can be of one class.
        Images beside the folders are left out. Raises DataError if there is no such folder, no class in it, a class
        without images, a folder that cannot be listed, or one that is none of `classes` or could be several; and
        DividedError if its folders are parts of a data set.
        """
        known = classes if isinstance(classes, ClassNames) else ClassNames(tuple(classes or ()))
        images = class_images.of(Path(root), known.matches)
        root, names = images.root, images.names
        if images.by_folder and (not all(map(known.matches, names)) or not names):
            refuse_divided(root, names)
        if not names:
            raise DataError(f"{root}: no class folders in it; put the images of each class into one")
        if classes is None:
            known = ClassNames(tuple({normalized(name): name for name in reversed(names)}.values())[::-1])
        found = {name: known.matches(name) for name in names}
        unknown = [name for name in names if not found[name]]
        if unknown:
            raise DataError(f"{root}: {_nearest(unknown, known)}")
        for name, numbers in found.items():
            if len(numbers) > 1:
                raise DataError(f"{root}: {known.ambiguity(name, numbers)}")

        paths: list[Path] = []
        labels: list[int] = []
        filled: set[int] = set()
        for name in names:
            inside = images.of_class(name)
            paths += inside
            labels += found[name] * len(inside)
            filled.update(found[name] if inside else ())
        empty = [name for name in names if found[name][0] not in filled]
        if empty:
            why = "".join(f". {problem}" for problem in images.unread)
            raise DataError(f"{root}: no images for {_listed(empty)}; add some or remove the folder{why}")
        problems = [*([beside_folders(root, images.beside, "class")] if images.beside else []), *images.problems]
        return cls(root, known.labels, paths, labels, tuple(problems), not images.by_folder)

    @classmethod
    def of_one(cls, paths: Sequence[str | Path]) -> "ClassFolder":
        """Images without labels, as a data set of one class that has no name."""
        files = [Path(path).absolute() for path in paths]
        return cls(Path(os.path.commonpath([file.parent for file in files])), ("",), files, [0] * len(files))

    def require_classes(self, least: int) -> None:
        """Raise DataError where there are fewer classes."""
        if len(self.classes) < least:
            raise DataError(
                f"{self.root}: holds {counted(len(self.classes), 'class')}, {least} are needed; one folder a class"
            )

    def split(self, fraction: float, seed: int, *, keep_single: bool = False) -> tuple["ClassFolder", "ClassFolder"]:
        """(rest, held out): a fraction (0 to 1) of each class is held out, drawn by the seed; at least one image each.

        A class with one image raises DataError, or stays in the rest if `keep_single`.
        """
        random = torch.Generator().manual_seed(seed)
        labels = torch.tensor(self.labels)
        held: set[int] = set()
        for label in labels.unique().tolist():
            members = (labels == label).nonzero()[:, 0]
            if len(members) < 2:
                if keep_single:
                    continue
                raise DataError(f"{self.root}: {self.classes[label]!r} has one image, too few to hold one out")
            count = min(len(members) - 1, max(1, round(fraction * len(members))))
            chosen = torch.randperm(len(members), generator=random)[:count]
            held.update(members[chosen].tolist())
        return self.part(i for i in range(len(labels)) if i not in held), self.part(sorted(held))

    def part(self, indices: Iterable[int]) -> "ClassFolder":
        """The data set with only the images at these indices, in this order; the classes stay."""
        indices = list(indices)
        paths, labels = [self.paths[i] for i in indices], [self.labels[i] for i in indices]
        return replace(self, paths=paths, labels=labels, problems=())

    def without(self, labels: Set[int]) -> "ClassFolder":
        """The data set without these classes; the others are renumbered."""
        kept = [label for label in range(len(self.classes)) if label not in labels]
        number = {label: index for index, label in enumerate(kept)}
        part = self.part(index for index, label in enumerate(self.labels) if label in number)
        names, numbers = tuple(self.classes[label] for label in kept), [number[label] for label in part.labels]
        return replace(part, classes=names, labels=numbers)

    def digest(self) -> str:
        """SHA-256 over the paths in the root and the sizes in bytes, to recognize the same list of files.

        And over the classes where the paths do not hold them.
        """
        files = digest(self.paths, self.root)
        return hashlib.sha256(repr((files, self.classes, self.labels)).encode()).hexdigest() if self.listed else files


def beside_folders(root: Path, names: Sequence[str], what: str) -> DataError:
    """Count images that are in no folder of a `what` as left out; returns the error to report them by."""
    for name in names:
        tally.current().leave_out(root / name, f"image{{s}} in no {what} folder")
    return DataError(
        f"{root}: {counted(len(names), 'image')} in no {what} folder, left out ({_listed(list(names), 2)})"
    )


def spread(count: int | None, total: int) -> list[int]:
    """At most `count` indices spread evenly over `total`, so that all classes occur in files sorted by class."""
    count = total if count is None else min(count, total)
    return [index * total // count for index in range(count)]


def digest(paths: Iterable[Path], root: Path | None = None) -> str:
    """SHA-256 over the paths, as given or relative to `root`, and the sizes in bytes, to recognize a list of files."""
    total = hashlib.sha256()
    for path in paths:
        size, _ = input_files.mark(path) or (-1, 0)  # a link that leads nowhere
        if root and path.is_relative_to(root):
            path = path.relative_to(root)
        elif root:  # of several archives, or of a list
            path = Path(os.path.relpath(path, root))
        total.update(os.fsencode(path.as_posix()) + b"\0%d\0" % size)
    return total.hexdigest()


def _nearest(unknown: list[str], known: ClassNames) -> str:
    near = difflib.get_close_matches(unknown[0], known.labels, n=3, cutoff=0.0)
    count = counted(len(known.labels), "class")
    return f"{_listed(unknown)}: none of the model's {count}; nearest to it: {', '.join(near)}"


def _listed(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more

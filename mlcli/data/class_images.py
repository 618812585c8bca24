"""Which images a labeled data set has of each class: by folders, or by what an archive or a list says of each image.

images = of(root)        names: of the classes; images.of_class("cat")
"""

import csv
import io
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from mlcli.counting import counted
from mlcli.data import path_lists
from mlcli.data.sources import Found, find_images
from mlcli.data.walking import Listing, Walker
from mlcli.errors import DataError, ImageError
from mlcli.io import input_files

LIST = ".csv"
IMAGE_COLUMNS = ("image", "path", "file", "filename")
CLASS_COLUMNS = ("class", "label")


class ClassImages(ABC):
    """The images of a data set by class.

    root: for names in messages.  names: of the classes, sorted.  beside: images without a class, by their paths in the
    root.  by_folder: whether the classes are folders.
    """

    root: Path
    names: list[str]
    beside: list[str]
    by_folder = False

    @abstractmethod
    def of_class(self, name: str) -> list[Path]:
        """The images of one class. Raises DataError where a folder cannot be listed."""

    @property
    def problems(self) -> list[ImageError]:
        """What was left out and why, up to now."""
        return []

    @property
    def unread(self) -> list[ImageError]:
        """An error for each format that cannot be read."""
        return []


class FolderImages(ClassImages):
    """Images in one folder for each class. The folders of several archives that have equal names are one class."""

    by_folder = True

    def __init__(self, root: Path, is_class: Callable[[str], object]) -> None:
        self.root = root
        self.found: list[tuple[Walker, Listing]] = []
        for name in input_files.expanded(root):
            walker = Walker(Path(name))
            top = walker.listing()
            _require_listed(walker)
            if walker.archive and len(top.folders) == 1 and not top.images and not is_class(top.folders[0]):
                inner = walker.listing(top.folders[0])
                if inner.folders and not inner.images:  # an archive of one folder, which holds those of the classes
                    walker = Walker(Path(name) / top.folders[0])
                    top = walker.listing()
            self.found.append((walker, top))
        if len(self.found) == 1:
            self.root = self.found[0][0].root
        self.names = sorted({name for _, top in self.found for name in (*top.folders, *top.links)})
        self.beside = [name for _, top in self.found for name in top.images]

    def of_class(self, name: str) -> list[Path]:
        paths = []
        for walker, top in self.found:
            if name in top.folders or name in top.links:
                paths += walker.images(name)
                _require_listed(walker)
        return paths

    @property
    def problems(self) -> list[ImageError]:
        return [problem for walker, _ in self.found for problem in walker.problems]

    @property
    def unread(self) -> list[ImageError]:
        return [problem for walker, _ in self.found for problem in walker.unread]


class ListedImages(ClassImages):
    """Images with the class that an archive or a list names for each."""

    def __init__(self, root: Path, classes: Mapping[Path, str | None], problems: list[ImageError]) -> None:
        self.root, self._problems = root, problems
        self._paths: dict[str, list[Path]] = defaultdict(list)
        self.beside = []
        for path, name in classes.items():
            if name:
                self._paths[name].append(path)
            else:
                self.beside.append(os.path.relpath(path, root))
        numbers = all(name.isascii() and name.isdigit() for name in self._paths)
        self.names = sorted(self._paths, key=int if numbers else None)

    def of_class(self, name: str) -> list[Path]:
        return self._paths[name]

    @property
    def problems(self) -> list[ImageError]:
        return self._problems


def _require_listed(walker: Walker) -> None:
    """Raise DataError where a folder could not be listed."""
    if walker.unlisted:
        raise DataError(str(walker.unlisted[0]))


def is_labeled(root: str | os.PathLike[str]) -> bool:
    """Whether a name stands for something that `of` opens."""
    return input_files.is_folder(root) or (os.fspath(root).lower().endswith(LIST) and os.path.isfile(root))


def of(root: Path, is_class: Callable[[str], object] = lambda name: False) -> ClassImages:
    """The images below `root`, a folder, an archive, a pattern of archives or a list in CSV.

    is_class: whether a name is that of a class that is known. Raises DataError where there is nothing of the kind.
    """
    if is_labeled(root) and not input_files.is_folder(root):
        return _of_list(root)
    require_folder(root)
    classes: dict[Path, str] = {}
    for name in input_files.expanded(root):
        try:
            classes |= input_files.labels(name)
        except ImageError as error:
            raise DataError(str(error)) from None
    found = find_images([root]) if classes else Found()
    if not any(path in classes for path in found.paths):
        return FolderImages(root, is_class)
    return ListedImages(root, {path: classes.get(path) for path in found.paths}, found.problems)


def require_folder(root: Path, *, single: bool = False) -> None:
    """Raise DataError where there is neither a folder nor an archive of this name, or with `single` several."""
    if not input_files.is_folder(root):
        raise DataError(f"{root}: {'a file, not a' if os.path.exists(root) else 'no such'} folder")
    if single and (count := len(input_files.expanded(root))) > 1:
        raise DataError(f"{root}: stands for {counted(count, 'folder')}, where one is needed; name one of them")


def _of_list(file: Path) -> ListedImages:
    """The images and classes of a list in CSV, whose paths are relative to its folder."""
    try:
        text = path_lists.decoded(file.read_bytes(), str(file))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    rows = csv.DictReader(io.StringIO(text))
    try:
        columns = {(name or "").strip().casefold(): name for name in rows.fieldnames or ()}
        image = next((columns[name] for name in IMAGE_COLUMNS if name in columns), None)
        label = next((columns[name] for name in CLASS_COLUMNS if name in columns), None)
        if image is None or label is None:
            raise DataError(f"{file}: its first line does not name the columns image and class")
        named = {file.parent / row[image]: (row[label] or "").strip() for row in rows if row[image]}
    except csv.Error as error:
        raise DataError(f"{file}: cannot be read as CSV ({error})") from None
    for folder in {path.parent for path in named}:
        input_files.renew(folder)
    return ListedImages(file.parent, dict(named), [])

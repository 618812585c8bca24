"""The images that a command's arguments name, where what is made of each goes, and reading them one by one."""

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import call as calls
from mlcli.api.events import Task, complain, say
from mlcli.counting import counted
from mlcli.io import input_files

if TYPE_CHECKING:
    from mlcli.api.common import Images
    from mlcli.data.class_names import ClassNames
    from mlcli.data.folders import ClassFolder, DividedError
    from mlcli.imaging.memory_images import MemoryImage


def listed(given: Any) -> list[Any]:
    """Several values as they were given, or a single one, as a list."""
    return list(given) if isinstance(given, (list, tuple)) else [given]


def named(images: "Images") -> "tuple[Sequence[Path | MemoryImage], int]":
    """(the images given: paths of files, and those in memory; how many folders could not be listed).

    Raises DataError where there is no image.
    """
    from mlcli.data.sources import find_images
    from mlcli.errors import DataError
    from mlcli.imaging.memory_images import MemoryImage

    given = listed(images)
    if all(isinstance(image, (str, os.PathLike)) for image in given):
        found = find_images([os.fspath(image) for image in given])
        for problem in found.problems:
            complain(problem)
        paths: Sequence[Path | MemoryImage] = found.paths
        failures = len(found.problems)
    else:
        mixed: list[Path | MemoryImage] = []
        paths, failures = mixed, 0
        for number, image in enumerate(given):
            if isinstance(image, (str, os.PathLike)):
                more, failed = named([image])
                mixed += more
                failures += failed
            else:
                mixed.append(MemoryImage.of(image, number))
    if not paths:
        raise DataError(f"{' '.join(map(str, given))}: no images there")
    return paths, failures


def one_image(image: Any, number: int = 0) -> "Path | MemoryImage":
    """One image as it was given: the path of a file, or an image in memory, the `number`-th of those given."""
    from mlcli.imaging.memory_images import MemoryImage

    return Path(image) if isinstance(image, (str, os.PathLike)) else MemoryImage.of(image, number)


def file_names(images: "Images") -> list[str]:
    """The files and folders given, a single one without a list.

    Raises UsageError for an image in memory, where the results are named after the files of the images.
    """
    from mlcli.errors import UsageError

    given = listed(images)
    for image in given:
        if not isinstance(image, (str, os.PathLike)):
            raise UsageError(f"an image in memory ({type(image).__name__}) has no file name; give paths")
    return [os.fspath(image) for image in given]


def files_named(images: "Images") -> list[Path]:
    """The image files given, of folders all in them. Raises DataError where there is none, UsageError for an image in
    memory."""
    paths, _ = named(file_names(images))
    return [path for path in paths if isinstance(path, Path)]


def evenly(paths: list[Path], most: int, title: str) -> list[Path]:
    """At most so many of the paths, evenly spaced; says how many are left out. title: of what they are given for."""
    if len(paths) <= most:
        return paths
    say(f"{title}: takes {most} of {counted(len(paths), 'image')}; --sample takes more")
    return [paths[index * len(paths) // most] for index in range(most)]


def class_folder(
    root: str | Path,
    classes: "Sequence[str] | ClassNames | None" = None,
    *,
    learns: bool = True,
    val: bool = False,
) -> "ClassFolder":
    """`ClassFolder.open`; what is left out is named.

    learns, val: whether the command learns from the folder, and takes a --val to test on, for what to name in place of
    the root of a divided data set. Raises DataError.
    """
    from mlcli.data.folders import ClassFolder, DividedError
    from mlcli.errors import DataError

    try:
        folder = ClassFolder.open(root, classes)
    except DividedError as error:
        raise DataError(f"{error}: {right_command(error, learns, val)}") from None
    for problem in folder.problems:
        complain(problem)
    return folder


def right_command(error: "DividedError", learns: bool, val: bool) -> str:
    """The command line with a part of a divided data set in place of its root, and another for --val."""
    chosen = (error.training if learns else error.held_out) or error.held_out or error.training
    call = calls.current()
    if call is None or call.words is None:
        return f"give {chosen}"
    words = [str(chosen) if Path(word) == error.root else word for word in call.words]
    if val and error.training and error.held_out and "--val" not in words:
        words += ["--val", str(error.held_out)]
    return shlex.join(words)


def results(
    given: Sequence[str], output: Path, name: Callable[[Path], Path]
) -> tuple[dict[Path, Path], list[Exception]]:
    """({result: its image}, the problems met): for each image of `given` a path in the folder `output`.

    The result of a file has its name there, that of an image in a given folder its path in that. `name` changes the
    end of the path to what the result is called. Where `output` is inside a given folder, the images in it, results
    of an earlier call, are skipped. Problems: folders that cannot be listed, results that would have the same path.
    """
    from mlcli.data.sources import find_images
    from mlcli.errors import UsageError
    from mlcli.io import tally

    images: dict[Path, Path] = {}
    problems: list[Exception] = []
    own = Path(os.path.realpath(output))
    for each in (name for pattern in given for name in input_files.expanded(pattern)):
        found = find_images([each])
        problems += found.problems
        inside = input_files.is_folder(each)
        holds_results = inside and Path(os.path.realpath(each)) in own.parents
        for path in found.paths:
            if holds_results and own in Path(os.path.realpath(path)).parents:
                continue
            result = name(output / (path.relative_to(each) if inside else path.name))
            if result not in images:
                images[result] = path
            elif images[result].absolute() != path.absolute():
                problems.append(UsageError(f"{path}: its result would be {result}, as that of {images[result]}"))
                tally.current().leave_out(path, "image{s} whose result would be that of another")
    return images, problems


def modified(path: Path) -> float:
    """When a file was last changed; a missing one, which is named later, counts as new.

    One that says to be of the future, as of a camera with a wrong clock, was changed when it came to where it is, or
    what is made of it would be older at every call.
    """
    try:
        status = os.stat(input_files.file_behind(path))
    except OSError:
        return float("inf")
    return status.st_mtime if status.st_mtime <= time.time() else min(status.st_mtime, status.st_ctime)


def files_digest(options: Mapping[str, Any], output: Path) -> str | None:
    """SHA-256 over names, numbers, sizes and times of all files that options name, but for those in `output`.

    It tells in little time whether something may have changed. None where that cannot be told: paths on stdin, and
    images that a list of classes names.
    """
    total = sha256()
    for name, value in sorted(options.items()):
        for each in value if isinstance(value, list) else [value]:
            if name == "output" or not isinstance(each, str):
                continue
            if each == "-" or (name in ("data", "val") and each.lower().endswith(".csv")):
                return None
            for file in filter(os.path.exists, map(input_files.file_behind, input_files.expanded(each))):
                for line in _described(file, os.path.realpath(output)):
                    total.update(f"{name} {line}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _described(root: str, output: str) -> Iterator[str]:
    """A line for each file at or below a path: its name there, its number, its size and its times.

    Hidden ones, such as the index of `mlcli neighbors`, are no data.
    """
    seen = set()
    if os.path.isfile(root):
        yield _line(root, "")
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or real == output:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(name for name in files if not name.startswith(".")):
            path = os.path.join(folder, file)
            yield _line(path, os.path.relpath(path, root))


def _line(path: str, name: str) -> str:
    try:
        status = os.stat(path)
    except OSError:  # a link to nowhere
        return name
    return f"{name} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def height_and_width(text: str, option: str = "--size") -> tuple[int, int]:
    """SIDE or WIDTHxHEIGHT to height and width. Raises UsageError for anything else, and for more than can be read.

    option: whose value it is, for the message.
    """
    from mlcli.errors import UsageError
    from mlcli.imaging.image_io import MAX_PIXELS

    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise UsageError(f"{option} {text}: take a side in pixels, as in 256, or width and height, as in 320x200")
    if sides[0] * sides[-1] > MAX_PIXELS:
        raise UsageError(f"{option} {text}: more than the limit of {MAX_PIXELS:,} pixels; take a smaller one")
    return sides[-1], sides[0]


class Readable:
    """Iterates over (number, transformed image) of the paths that can be read, and names the others.

    count, failures: of those read so far. bar: moves with each. window, workers, more: of `decoding.decode`.
    """

    def __init__(
        self,
        paths: "Sequence[Path | MemoryImage]",
        transform: Callable[..., Any] | None,
        bar: Task,
        *,
        window: int,
        workers: int | None,
        **more: Any,
    ):
        self.paths, self.transform, self.bar = paths, transform, bar
        self.window, self.workers, self.more = window, workers, more
        self.count = self.failures = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        from mlcli.errors import ImageError
        from mlcli.imaging.decoding import decode

        for number, image in decode(self.paths, self.transform, workers=self.workers, window=self.window, **self.more):
            if isinstance(image, ImageError):
                self.failures += 1
                self.bar.complain(image)
            else:
                self.count += 1
                yield number, image
            self.bar.to(number + 1)

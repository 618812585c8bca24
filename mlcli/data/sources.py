"""What the names on a command line stand for: files, folders, archives, lists of paths on standard input.

A further kind of source is a function that recognizes it, a function that finds its images, and an entry in SOURCES.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mlcli.data import path_lists
from mlcli.data.class_names import normalized
from mlcli.data.compact_paths import PathList
from mlcli.data.walking import Walker, special_problem
from mlcli.errors import ImageError, MlcliError, UsageError
from mlcli.io import input_files


@dataclass
class Found:
    """The images that `find_images` found, in order.

    problems: folders that could not be listed, special files, and formats that cannot be read.
    stdin: what a source reads that is named -; None for that of the process.
    """

    paths: PathList = field(default_factory=PathList)
    problems: list[ImageError] = field(default_factory=list)
    stdin: BinaryIO | None = None


class Source(NamedTuple):
    """A kind of source of images.

    recognizes: whether a name stands for one.  find: adds the images and the problems of the one with this name.
    """

    recognizes: Callable[[str], bool]
    find: Callable[[str, Found], None]


def find_images(inputs: Sequence[str | Path], *, stdin: BinaryIO | None = None) -> Found:
    """The images that `inputs` name, in the order given, without duplicates.

    A file is included whatever its ending, even if it does not exist; reading it reports that later. Pipes, sockets
    and devices are left out, since a reader might wait for them forever, except `/dev/stdin` and a shell's
    `<(command)`. A folder is walked recursively (see `walking`), linked folders included; its images are sorted by
    their path in it. An archive is walked as a folder is; the paths of its members begin with its own. `{00..99}` and
    `{a,b}` in a name that is not there are expanded. `-` stands for the paths on `stdin` (default: that of the
    process), one a line or NUL-separated.
    """
    found = Found(stdin=stdin)
    for given in inputs:
        if not str(given):
            # an unset variable of a script, which Path takes for the current folder
            raise UsageError("an empty name among the images; name files or folders, or . for this folder")
        add(str(given), found)
    found.paths = found.paths.without_repeated()
    return found


def add(name: str, found: Found) -> None:
    """Add the images of the first of SOURCES that recognizes the name."""
    next(source for source in SOURCES if source.recognizes(name)).find(name, found)


def _listed(_: str, found: Found) -> None:
    try:
        data = (found.stdin or sys.stdin.buffer).read()
    except OSError as error:  # open for writing alone, or a terminal that is gone
        raise MlcliError(f"-: standard input cannot be read: {error.strerror or error}") from None
    for path in path_lists.paths(data):
        add(path if path != "-" else os.path.join(".", path), found)  # a file of this name


def _walked(name: str, found: Found) -> None:
    walker = Walker(as_on_disk(name))
    found.paths += walker.images()
    found.problems += walker.problems


def _expanded(name: str, found: Found) -> None:
    for each in input_files.expanded(name):
        add(each, found)


def _single(name: str, found: Found) -> None:
    path = as_on_disk(name)
    input_files.renew(path)
    if problem := special_problem(path):
        found.problems.append(problem)
    else:
        found.paths.append(path)


# The first that recognizes a name is the one; the last takes every name.
SOURCES = [
    Source(lambda name: name == "-", _listed),
    Source(lambda name: input_files.expanded(name) != [name], _expanded),
    Source(lambda name: input_files.is_folder(as_on_disk(name)), _walked),
    Source(lambda name: True, _single),
]


def as_on_disk(path: str | Path) -> Path:
    """The path of the file whose name differs from `path` only in Unicode normalization; else `path` itself.

    macOS writes é as two characters, and lists and archives carry that to file systems that distinguish the two forms.
    """
    path = Path(path)
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[len(found.parts) :]:
        if os.path.lexists(found / part):
            found /= part
            continue
        try:
            same = [name for name in os.listdir(found) if normalized(name) == normalized(part)]
        except (OSError, ValueError):
            return path
        if len(same) != 1:
            return path
        found /= same[0]
    return found

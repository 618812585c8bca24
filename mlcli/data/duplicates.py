"""Duplicate files in a data set: one copy must not be in the training data while another is in the test data."""

from collections import defaultdict
from collections.abc import Set
from pathlib import Path

from mlcli.data.folders import ClassFolder
from mlcli.errors import DataError, ImageError, MlcliError
from mlcli.imaging import image_io
from mlcli.io import files, tally


def content(path: Path) -> bytes | None:
    """A digest of the bytes of a file; None where it cannot be read."""
    try:
        return bytes.fromhex(files.file_hash(path))
    except MlcliError:
        return None


def _decodes(path: Path) -> bool:
    """Whether a file is a readable image."""
    try:
        image_io.read(path)
    except ImageError:
        return False
    return True


def without_duplicates(
    folder: ClassFolder, seen: Set[bytes] = frozenset()
) -> tuple[ClassFolder, list[DataError], set[bytes]]:
    """(the data set with each image once, what was left out and why, the digests of the contents that are kept).

    Of equal files in one class the first is kept. Equal files in several classes are all left out, since their class
    is unknown. Files whose contents are in `seen`, those of another part of the data, are left out too. Files that are
    no images are kept, to be reported when they are decoded.
    """
    copies: dict[bytes, list[int]] = defaultdict(list)
    unread: list[int] = []
    for index, path in enumerate(folder.paths):
        digest = content(path)
        if digest is None:
            unread.append(index)
        else:
            copies[digest].append(index)
    problems: list[DataError] = []
    kept, contents = unread, set[bytes]()
    for digest, same in copies.items():
        first, *others = (folder.paths[index] for index in same)
        if (others or digest in seen) and not _decodes(first):
            kept += same
        elif digest in seen:
            problems.append(DataError(f"{first}: the same file is among the training images; left out"))
        elif len({folder.labels[index] for index in same}) > 1:
            names = ", ".join(str(path) for path in others)
            problems.append(DataError(f"{first}: the same file stands in another class ({names}); all left out"))
        else:
            problems += [DataError(f"{path}: the same file as {first}; left out") for path in others]
            kept.append(same[0])
            contents.add(digest)
    for index in set(range(len(folder.paths))) - set(kept):
        tally.current().leave_out(folder.paths[index], "duplicate{s}")
    return folder.part(sorted(kept)), problems, contents

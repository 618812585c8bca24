"""Folders of images by identity that are read and checked, with what is wrong with them said."""

import os
from collections.abc import Set
from typing import TYPE_CHECKING

from mlcli.api.events import complain
from mlcli.api.inputs import right_command
from mlcli.counting import counted
from mlcli.errors import DataError

if TYPE_CHECKING:
    from mlcli.data.folders import ClassFolder


def read_identities(
    data: str | os.PathLike[str], seen: Set[bytes] = frozenset(), *, learns: bool = True, val: bool = False
) -> tuple["ClassFolder", set[bytes]]:
    """(the images of a folder by identity, digests of their files).

    What is left out, such as files among `seen`, is said. learns, val: as in `inputs.class_folder`. Raises DataError
    where fewer than two identities are left.
    """
    from mlcli.data.duplicates import without_duplicates
    from mlcli.data.folders import DividedError
    from mlcli.data.identities import open_identities

    try:
        folder, problems = open_identities(data)
    except DividedError as error:
        raise DataError(f"{error}: {right_command(error, learns, val)}") from None
    folder, copies, contents = without_duplicates(folder, seen)
    counts = [folder.labels.count(label) for label in range(len(folder.classes))]
    present = sum(count > 0 for count in counts)
    single = [name for name, count in zip(folder.classes, counts, strict=True) if count == 1]
    if single:
        more = f" and {len(single) - 3} more" if len(single) > 3 else ""
        names = ", ".join(single[:3])
        copies.append(DataError(f"{data}: one image alone of {names}{more}; there is no second one to compare it with"))
    for problem in (*problems, *copies):
        complain(problem)
    if present < 2:
        raise DataError(f"{data}: images of {counted(present, 'identity')}; two at least are needed, a folder for each")
    return folder, contents

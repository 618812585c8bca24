"""Paths of outputs: what is a file and what is a folder, told by the text before anything is there."""

import os
from pathlib import Path

from mlcli.errors import UsageError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")  # of the images that are written


class FolderPath(type(Path())):  # type: ignore[misc]  # the kind of path that this system has
    """A path that stands for a folder, whatever its name: it was given with a trailing /, or is there as one."""


def file_path(text: str | os.PathLike[str]) -> Path:
    """The path of a file to write. Raises UsageError for a text with a trailing /."""
    if os.fspath(text).endswith(os.sep):
        raise UsageError(f"{text} with a trailing {os.sep} is a folder; give the name of a file")
    return Path(text)


def folder_path(text: str | os.PathLike[str]) -> Path:
    """The path of a folder to write. Raises UsageError for a text that ends as an image does, and is no folder."""
    path = file_or_folder_path(text)
    if names_image(path) and not os.path.isfile(path):  # of a file the command says so
        raise UsageError(f"{text} ends as an image does, and a folder is written; {text}{os.sep} would be one")
    return path


def file_or_folder_path(text: str | os.PathLike[str]) -> Path:
    """The path of an image or of a folder to write, by `names_image`; one that is a `FolderPath` already stays one."""
    folder = isinstance(text, FolderPath) or os.fspath(text).endswith(os.sep) or os.path.isdir(text)
    return FolderPath(text) if folder else Path(text)


def names_image(output: Path) -> bool:
    """Whether an output that can be an image or a folder is an image: it ends as one, and is given as no folder."""
    return output.suffix.lower() in ENDINGS and not isinstance(output, FolderPath)


KINDS = {"file": file_path, "folder": folder_path, "either": file_or_folder_path, "input": Path}

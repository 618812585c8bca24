"""Archives of files, sound and hostile, made for a test."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def image_bytes(color: str = "red", size: tuple[int, int] = (8, 6), kind: str = "PNG") -> bytes:
    """An image of one color as a file."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, kind)
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder by their paths in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def write_tar(file: Path, members: Mapping[str, bytes] | list[tuple[str, bytes]], mode: str = "w", **options) -> Path:
    """A tar of members in the order given, which can have equal names."""
    with tarfile.open(file, mode, **options) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def write_zip(file: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file

"""Decoding of texts and lists of paths in UTF-8 or UTF-16, with or without a byte-order mark."""

import codecs
import os

from mlcli.errors import DataError
from mlcli.imaging import formats

# The mark of UTF-32 begins like that of UTF-16, so it comes first
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# Fragments that a UTF-16 list has between its NULs, and that no list of NUL-separated paths holds
_FRAGMENTS = {b".", b"/", b"\\", b"\n", b"\r", b"\n\r", b"\r\n"}


def decoded(data: bytes, source: str) -> str:
    """The text in the bytes of a file or stream.

    The encoding is that of the byte-order mark; without one it is UTF-16 where the NULs are distributed as in UTF-16,
    else UTF-8. Bytes that are not UTF-8 are decoded as by `os.fsdecode`. source: named in errors. Raises DataError
    where a UTF-16 or UTF-32 text is broken.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None and _FRAGMENTS & set(data.split(b"\0")):
        nuls = [data[parity::2].count(0) for parity in (0, 1)]
        if not min(nuls) and max(nuls) * 4 >= len(data):
            encoding = "utf-16-le" if nuls[1] else "utf-16-be"
    try:
        return data.decode(encoding or "utf-8", "strict" if encoding else "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source}: begins as {(encoding or '').upper()} and is broken at byte {error.start}; write it as UTF-8"
        ) from None


def paths(data: bytes, source: str = "-") -> list[str]:
    """The paths in a list, one a line or NUL-separated.

    Raises DataError for an image, for names that are neither UTF-8 nor UTF-16 and belong to no file, and for a folder
    whose name is one character, such as . or /, which is more likely a fragment of another name.
    """
    if (image := formats.format_of_bytes(data[: formats.HEAD])) and (b"\0" in data or b"\xff" in data):
        raise DataError(f"{source}: holds a {image.name} image, not a list of paths; name its file instead")
    text = decoded(data, source)
    names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    names = [name for name in names if name]
    for name in names:
        if not _is_utf8(name) and not os.path.lexists(name):
            raise DataError(
                f"{source}: {name!r} is neither UTF-8 nor UTF-16, and no file of this name is there; write the list as "
                "UTF-8"
            )
        if len(name) == 1 and os.path.isdir(name):
            raise DataError(
                f"{source}: {name!r} in a list of paths may be a fragment of another name; to take all that is in this "
                f"folder, name it as an argument"
            )
    return names


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

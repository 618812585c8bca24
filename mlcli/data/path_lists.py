"""Lists of paths and other texts that people and programs wrote: UTF-8 or UTF-16, with a byte-order mark or without."""

import codecs
import os

from mlcli.errors import DataError
from mlcli.io import formats

# A UTF-32 mark begins as that of UTF-16 does, and is looked for first
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# What a UTF-16 list falls into at its NULs, and no list of NUL-separated paths holds
_FRAGMENTS = {b".", b"/", b"\\", b"\n", b"\r", b"\n\r", b"\r\n"}


def decoded(data: bytes, source: str) -> str:
    """The text of a file or stream, by its byte-order mark, else UTF-8, or UTF-16 where it has NULs as only that has.

    Bytes that are not UTF-8 come out as `os.fsdecode` has them. source: what errors name. Raises DataError where a
    UTF-16 text is broken.
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
            f"{source}: begins as {encoding.upper()} and is broken at byte {error.start}; write it as UTF-8"
        ) from None


def paths(data: bytes, source: str = "-") -> list[str]:
    """The paths of a list, one a line or NUL-separated.

    Raises DataError for what is no list: an image, text that is neither UTF-8 nor UTF-16 where no files of such names
    are there, and a folder whose name is one character, such as . or /, which is a fragment rather than meant.
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

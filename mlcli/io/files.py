"""Files that appear whole or not at all: atomic writes, JSON, hashes."""

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlcli.errors import MlcliError
from mlcli.io.descriptors import Descriptor, descriptor_behind
from mlcli.io.input_files import open_input

ADVICE = {
    errno.ENOSPC: "make room or choose another disk",
    errno.EDQUOT: "make room or choose another disk",
    errno.EFBIG: "the file-size limit of this shell or disk is too low (ulimit -f)",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.EISDIR: "give the name of a file, not of a folder",
    errno.ENOTDIR: "a part of the path is a file; choose another",
    errno.EEXIST: "a part of the path is a file; choose another",
    errno.EBADF: "it is not open for writing",
    errno.ENAMETOOLONG: "choose a shorter name",
}


LONGEST_NAME = 200  # bytes; file systems take 255, of which endings and numbers need some
TEMPORARY = ".mlcli-"  # how the names of unfinished files begin
LOCK = ".mlcli."  # and those of the files of mlcli.io.locks

_swept: set[str] = set()  # folders that this process has looked through for what killed processes left


@contextmanager
def atomic_write(path: str | Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it becomes `path` on success and goes on any exception.

    What stood at `path` stays whole until the new content is on the disk, also when the process is killed; what killed
    processes have left in the folder is swept. Parent folders are made. The temporary file is there already, empty; its
    name keeps the ending of `path`, so that a writer can guess the format from it. A symbolic link is followed; a
    device or a pipe is written straight through, and an open descriptor (/dev/stdout, /dev/fd/3) where it stands. That
    a pipe's reader has read enough is no error.
    flush: wait for the disk, ten milliseconds or so; False for one of thousands of files that are soon made again.
    Raises MlcliError, naming the path and the reason, for every OSError inside the block.
    """
    path = Path(path)
    temporary = holding = None
    try:
        descriptor = descriptor_behind(path)
        mode = _mode(path) if descriptor is None else os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # Renaming over /dev/null would destroy the device
        through = descriptor is not None or (bool(mode) and not stat.S_ISREG(mode))
        target = Path(os.path.realpath(path)) if os.path.islink(path) and not through else path
        folder = Path(tempfile.gettempdir()) if through else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        if (real := os.path.realpath(folder)) not in _swept:
            _swept.add(real)
            sweep(folder)
        # Not built on the target's name: that may already be as long as the file system allows.
        ending = target.suffix if len(os.fsencode(target.suffix)) < 32 else ""
        temporary, holding = _temporary(folder, ending)

        yield temporary

        if not os.stat(temporary).st_mtime_ns:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if through:
            opened = os.open(path, os.O_WRONLY) if descriptor is None else os.dup(descriptor)
            with open(temporary, "rb") as source, Descriptor(opened, closefd=True) as sink, suppress(BrokenPipeError):
                shutil.copyfileobj(source, sink)
        else:
            if flush:
                _flush_to_disk(temporary)
            os.replace(temporary, target)
            if flush:
                with suppress(OSError):  # the rename is done; some file systems cannot sync a folder
                    _flush_to_disk(folder)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()
        if holding is not None:
            os.close(holding)


def sweep(folder: str | Path) -> None:
    """Remove the temporary files and locks in a folder, not below it, that killed processes left; no others."""
    with suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if entry.name.startswith((TEMPORARY, LOCK))]:
            with suppress(OSError):
                _remove_abandoned(os.path.join(folder, name))


def is_no_folder(path: str | Path) -> bool:
    """Whether something other than a folder stands here. A folder that another process makes meanwhile is none."""
    return os.path.lexists(path) and not os.path.isdir(path)


def is_vacant(folder: str | Path) -> bool:
    """Whether there is nothing in a folder, and in the folders of it, but what killed processes leave.

    That is unfinished files and locks. Raises MlcliError where it may not be looked into.
    """
    try:
        with os.scandir(folder) as entries:
            others = [entry for entry in entries if not entry.name.startswith((TEMPORARY, LOCK))]
            return all(entry.is_dir(follow_symlinks=False) and is_vacant(entry.path) for entry in others)
    except FileNotFoundError:  # another process has removed it meanwhile
        return True
    except OSError as error:
        raise MlcliError(f"{folder}: cannot be looked into: {error.strerror or error}; name another folder") from error


def check_writable(path: str | Path, what: str | Path | None = None) -> None:
    """Raise the MlcliError that `atomic_write` would raise where no file can be made at `path`; for before the work.

    Tried in its folder, or the nearest one above that is there, since permissions say nothing of a read-only disk, nor
    to the superuser. No folder is made. what: named in its place.
    """
    try:
        if (descriptor := descriptor_behind(path)) is not None:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            return
        if (mode := _mode(Path(path))) and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            return  # a device, which is written straight through
        folder = Path(os.path.realpath(path)).parent
        while not _mode(folder) and folder != folder.parent:
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_be_written(what or path, error) from error


def cannot_be_written(path: str | Path, error: OSError) -> MlcliError:
    """The error that says why nothing can be written to `path`, and what to do."""
    advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE else ""
    return MlcliError(f"{path}: cannot be written: {error.strerror or error}{advice}")


def write_bytes(path: str | Path, data: bytes, *, flush: bool = True) -> None:
    """Atomically write `data` to `path`; see `atomic_write`. Raises MlcliError if that cannot be done."""
    with atomic_write(path, flush=flush) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Atomically write `text` as UTF-8, with the bytes of undecodable file names as they were."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: str | Path, value: object) -> None:
    """Atomically write `value` as `json_text` gives it."""
    write_text(path, json_text(value))


def json_text(value: object) -> str:
    """`value` as an indented JSON document with a final newline, always valid UTF-8.

    Numbers that are not finite become null, since JSON has none of them; paths become strings. A file name that is not
    UTF-8 is kept as Python reads it, its odd bytes as escapes \\udc80 to \\udcff.
    """
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(plain(value), indent=2, allow_nan=False)
    return text + "\n"


def file_name(text: str) -> str:
    """A name of one file or folder for a text from anywhere, such as a class in a file of weights.

    What would lead to another folder, or is no name at all, is replaced: separators, control characters, the dots of
    `.` and `..` and of hidden files. What the file system would not take is shortened.
    """
    name = "".join(c if c.isprintable() and c not in "/\\:" else "_" for c in text.encode("utf-8", "replace").decode())
    name = re.sub(r"^\.+", lambda dots: "_" * len(dots[0]), name.strip()) or "_"
    while len(name.encode()) > LONGEST_NAME:
        name = name[:-1]
    return name


def file_hash(path: str | Path) -> str:
    """The SHA-256 of the file's content, 64 hexadecimal digits. Raises MlcliError if it cannot be read."""
    try:
        with open_input(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise MlcliError(f"{path}: cannot be read: {error.strerror or error}") from error


def _mode(path: Path) -> int:
    """The file mode of what `path` leads to; 0 if there is nothing."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _temporary(folder: Path, ending: str) -> tuple[Path, int]:
    """A new empty file in the folder, and a descriptor that holds its lock: it is alive as long as this is open.

    Its time of change is 0, so that it can be told whether anything has been written.
    """
    while True:
        path = folder / f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}{ending}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks, where nothing is swept
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.exists(path):
            with suppress(OSError):  # a file system without times
                os.utime(path, ns=(0, 0))
            return path, descriptor
        os.close(descriptor)  # it was taken for abandoned, and swept, before it was locked


def _remove_abandoned(path: str) -> None:
    """Remove a file if nobody holds its lock. OSError where somebody does, or that cannot be told."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def plain(value: object) -> object:
    """`value` as JSON can hold it; see `json_text`."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

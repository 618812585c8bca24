"""Locks on what a process works in, so that two at once cannot spoil each other's work.

A lock is a file in the folder that it locks, or beside the file. The operating system lets one process hold it, and
lets go of it when that process ends, killed or not; so a lock file that was left behind is in nobody's way. It says who
the holder is. On a file system without locks (some network drives) nothing is locked.
"""

import errno
import fcntl
import hashlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.errors import BusyError
from mlcli.io.files import LOCK, cannot_be_written, check_writable

if TYPE_CHECKING:
    from filelock import BaseFileLock

FOLDER_LOCK = f"{LOCK}lock"
PART = "part-"  # in the names of the locks of parts
PATIENCE = 0.3  # seconds to try for: another process may be looking at the lock, or be about to let go of it
ABSENT = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # file systems without locks


@contextmanager
def folder_locked(folder: str | Path, *, run: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be, and goes again if it is empty in the end.

    run: whether it is a run folder. Runs below it are parts of it then: none of them may be at work, and none begins.
    Raises BusyError, naming the holder, where another process holds it; MlcliError where it cannot be written to.
    """
    folder = Path(folder)
    if run:
        above = Path(os.path.realpath(folder)).parents[:2]
        for lock in (*(each / FOLDER_LOCK for each in above), *_locks_below(folder)):
            if held(lock) and _holder(lock).get("run"):
                raise _busy(lock.parent, lock)
    with _held(folder / FOLDER_LOCK, folder, {"run": run}):
        for lock in folder.glob(f"{LOCK}{PART}*.lock"):
            if held(lock):
                raise _busy(folder, lock)
        yield


@contextmanager
def part_locked(folder: str | Path, part: str) -> Iterator[None]:
    """Hold the lock of one part of the results in a folder, such as 3/16, while others may hold those of other parts.

    Raises as `folder_locked` does, where a process holds this part or the whole folder.
    """
    folder = Path(folder)
    with _held(folder / f"{LOCK}{PART}{part.replace('/', '-')}.lock", folder, {"part": part}):
        if is_locked(folder):
            raise _busy(folder, folder / FOLDER_LOCK)
        yield


@contextmanager
def file_locked(file: str | Path) -> Iterator[None]:
    """Hold the lock of a file that is to be written, there or not. Raises as `folder_locked` does."""
    check_writable(file)
    real = Path(os.path.realpath(file))
    # Not built on the file's name: that may already be as long as the file system allows
    name = hashlib.sha256(os.fsencode(real.name)).hexdigest()[:16]
    with _held(real.with_name(f"{LOCK}{name}.lock"), Path(file), {"file": real.name}):
        yield


def is_locked(folder: str | Path) -> bool:
    """Whether a process works in the folder, by `folder_locked`."""
    return held(Path(folder) / FOLDER_LOCK)


def held(lock: Path) -> bool:
    """Whether any process holds this lock file."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _held(lock_file: Path, what: Path, told: dict[str, Any]) -> Iterator[None]:
    check_writable(lock_file, what)
    made = _absent_folders(lock_file.parent)
    lock = _acquired(lock_file, what)
    try:
        if lock is not None:
            _tell(lock_file, told)
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                lock_file.unlink()  # while it is held: who has opened it meanwhile finds it gone, and opens it again
            lock.release()
        for folder in made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _acquired(lock_file: Path, what: Path) -> "BaseFileLock | None":
    """The lock, held; None on a file system without locks."""
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file, PATIENCE, thread_local=False, poll_interval=0.02, fallback_to_soft=False)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        if os.path.exists(lock_file) and not os.access(lock_file, os.W_OK) and not held(lock_file):
            os.unlink(lock_file)  # of a killed process of another user
        lock.acquire()
    except Timeout:
        raise _busy(what, lock_file) from None
    except (OSError, NotImplementedError) as error:
        if held(lock_file):  # by another user, whose lock file may not be opened to be written
            raise _busy(what, lock_file) from None
        if isinstance(error, NotImplementedError) or error.errno in ABSENT:
            return None
        raise cannot_be_written(what, error) from None
    return lock


def _tell(lock_file: Path, told: dict[str, Any]) -> None:
    """Write into the lock who holds it. A disk that is full takes nothing from the lock."""
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": shlex.join(["mlcli", *sys.argv[1:]]),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        **told,
    }
    with suppress(OSError):
        lock_file.write_text(json.dumps(holder) + "\n", "ascii")


def _holder(lock_file: Path) -> dict[str, Any]:
    """What the holder has written; empty where it has not yet."""
    try:
        holder = json.loads(lock_file.read_text("ascii"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _busy(what: Path, lock_file: Path) -> BusyError:
    holder = _holder(lock_file)
    who = "another process"
    if {"command", "pid", "host", "since"} <= holder.keys():
        who = f"`{holder['command']}` (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    return BusyError(f"{what}: {who} is working on it; wait until it has ended, or end it")


def _locks_below(folder: Path) -> list[Path]:
    """The locks of the parts that a run can have; see `Run.part`."""
    try:
        return [*folder.glob(f"*/{FOLDER_LOCK}"), *folder.glob(f"*/*/{FOLDER_LOCK}")]
    except OSError:
        return []


def _absent_folders(folder: Path) -> list[Path]:
    """This folder and those above it that are not there yet, the lowest first."""
    absent = []
    while not os.path.lexists(folder) and folder != folder.parent:
        absent.append(folder)
        folder = folder.parent
    return absent

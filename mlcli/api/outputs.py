"""Files and folders of results: which may be written, their locks, and the records that tell how they were made."""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from mlcli.api import call as calls
from mlcli.api.call import Call, Config, plain
from mlcli.errors import MlcliError, UsageError
from mlcli.imaging import reading
from mlcli.io import locks, schema
from mlcli.io.descriptors import descriptor_behind
from mlcli.io.files import check_writable, is_no_folder, is_vacant, sweep, write_json
from mlcli.runtime.batch_division import WHOLE, Shard


class Hashed(Protocol):
    """A model that was read from a file."""

    @property
    def hash(self) -> str:
        """SHA-256 of the file."""


def refuse_existing(output: Path | None, overwrite: bool) -> None:
    """Raise UsageError where something stands at `output` that may not be replaced.

    Devices and open descriptors (/dev/stdout) are written to, and nothing in them is replaced.

    And MlcliError where no file can be written there, so that no work is done in vain.
    """
    if output is None:
        return
    if os.path.isdir(output):
        raise UsageError(f"{output}: a folder; give the name of a file")
    if os.path.isfile(output) and not overwrite and descriptor_behind(output) is None:
        raise UsageError(f"{output}: exists already; --overwrite replaces it")
    check_writable(output)


def claim_folder(call: Call[Any], folder: Path, check: Callable[[], None], part: Shard = WHOLE) -> None:
    """Hold the lock of a folder of results until the call ends.

    part: of the results, which this call makes while others make the other parts.
    check: raises where the folder may not be written to; asked before the folder is touched, and again when no other
    process can change it any more. Raises BusyError where another process works in the folder.
    """
    check_unlocked(folder, check)
    call.hold(locks.folder_locked(folder) if part == WHOLE else locks.part_locked(folder, str(part)))
    check()
    sweep(folder)


def check_unlocked(folder: Path, check: Callable[[], object]) -> None:
    """Let `check` look at a folder in which nobody works, and raise.

    Where another process begins meanwhile, nothing is raised: to be told that it is busy, lock the folder next.
    """
    if not locks.is_locked(folder):
        try:
            check()
        except MlcliError:
            if not locks.is_locked(folder):
                raise


def claim_results(
    call: Call[Any],
    output: Path,
    record_file: Path,
    options: Mapping[str, Any],
    overwrite: bool,
    part: Shard = WHOLE,
) -> None:
    """`claim_folder` for results that are made file by file: it may hold results made with the same options.

    record_file: the record of the options, which is written before the first result.  Raises UsageError for a folder
    that holds other files, or results of other options.
    """

    def check() -> None:
        if overwrite or not os.path.isfile(record_file):
            refuse_existing_folder(output, overwrite)
        else:
            refuse_others(record_file, options)

    claim_folder(call, output, check, part)


def refuse_existing_folder(output: Path, overwrite: bool) -> None:
    """Raise UsageError where a file stands at `output`, or a folder with something in it that may not be replaced.

    And MlcliError where nothing can be written into it.
    """
    if is_no_folder(output):
        raise UsageError(f"{output}: a file; give the name of a folder")
    if os.path.isdir(output) and not overwrite and not is_vacant(output):
        raise UsageError(f"{output}: holds something already; name another folder, or --overwrite")
    check_writable(output / "any", output)


def resume_command() -> str:
    """What resumes the work of this call: its command line with --resume, or words for a call from Python."""
    call = calls.current()
    if call is None or call.words is None:
        return "the same call with resume=True"
    words = [word for word in call.words if word not in ("--overwrite", "--resume")]
    return shlex.join([*words, "--resume"])


# What the record of the results in a folder holds, such as pairs.json and translate.json
RECORD = schema.record(
    {"options": schema.OBJECT},
    {"command": schema.text(200), "sha256": schema.text(64), "run": schema.text(), "versions": schema.OBJECT},
)


def read_record(record_file: Path) -> dict[str, Any]:
    """The record of the results in a folder. Raises UsageError where it cannot be read, or is none."""
    try:
        return schema.read_json(record_file, RECORD)
    except (OSError, schema.Invalid) as error:
        told = getattr(error, "strerror", None) or error
        raise UsageError(f"{record_file}: cannot be read ({told}); --overwrite makes all from scratch") from None


def refuse_others(record_file: Path, options: Mapping[str, Any]) -> None:
    """Raise UsageError where the results in a folder, whose record is `record_file`, were made with other options."""
    then = read_record(record_file)["options"]
    now = {"accept_truncated": None, "stretch": None, **options, **reading.current().settings()}
    if other := [name for name, value in now.items() if then.get(name) != value]:
        call = calls.current()
        named = [name for name in other if call and name in call.given]  # the others may follow from these
        name = (named or other)[0]
        before, after = (_words(each) for each in (then.get(name), now[name]))
        raise UsageError(
            f"{record_file.parent}: its results were made with {name} {before}, not {after}; name another folder, "
            "or --overwrite makes them from scratch"
        )


def _words(value: Any) -> str:
    """The value of an option in a message."""
    return ", ".join(map(_words, value)) if isinstance(value, (list, tuple)) else str(plain(value))


def write_beside(
    output: Path, command: str, options: Mapping[str, Any], model: Hashed | None = None, **more: Any
) -> None:
    """OUTPUT.json beside an image: what reproduces it."""
    write_json(output.with_name(output.name + ".json"), record(command, options, model, **more))


# Options that change no number of a result. `record` itself tells how images were read.
UNRELATED = {"output", "device", "engine", "workers", "overwrite", "resume", "accept_truncated", "stretch"}
UNRELATED |= {"index", "refresh", "format", "shard"}


def determining(config: Config, **effective: Any) -> dict[str, Any]:
    """The options that determine a result, as its record keeps them.

    effective: the values that were used in the end, in place of what the configuration leaves open.
    """
    options = {name: value for name, value in config.as_json().items() if name not in UNRELATED}
    return options | {name: plain(value) for name, value in effective.items()}


def record(command: str, options: Mapping[str, Any], model: Hashed | None = None, **more: Any) -> dict[str, Any]:
    """What reproduces a result, and `more` that is to be said of it."""
    from mlcli.training.run_folder import versions

    return {
        "command": command,
        "options": {**options, **reading.current().settings()},
        **({} if model is None else {"model_hash": model.hash}),
        "versions": versions(),
        **more,
    }

"""Where a command's result goes: stdout, or a file that is refused if it exists."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from mlcli.commands._report import out
from mlcli.errors import UsageError
from mlcli.io import locks, reading, schema
from mlcli.io.descriptors import descriptor_behind
from mlcli.io.files import check_writable, is_vacant, sweep, write_json, write_text
from mlcli.training.run_folder import versions


class Result:
    """The document a command ends with. Raises UsageError at once, before any work, if the file exists already."""

    def __init__(self, output: Path | None, overwrite: bool):
        self.output = output
        refuse_existing(output, overwrite)

    def write(self, text: str) -> None:
        if self.output is None:
            out(text)
        else:
            write_text(self.output, text)


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


def claim_folder(context: typer.Context, folder: Path, check: Callable[[], None]) -> None:
    """Hold the lock of a folder of results until the command ends.

    check: raises where the folder may not be written to; asked before the folder is touched, and again when no other
    process can change it any more. Raises BusyError where another process works in the folder.
    """
    if not locks.is_locked(folder):
        check()
    context.with_resource(locks.folder_locked(folder))
    check()
    sweep(folder)


def refuse_existing_folder(output: Path, overwrite: bool) -> None:
    """Raise UsageError where a file stands at `output`, or a folder with something in it that may not be replaced.

    And MlcliError where nothing can be written into it.
    """
    if os.path.isdir(output):
        if not overwrite and not is_vacant(output):
            raise UsageError(f"{output}: holds something already; name another folder, or --overwrite")
    elif os.path.lexists(output):
        raise UsageError(f"{output}: a file; give the name of a folder")
    check_writable(output / "any", output)


def resume_command() -> str:
    """The command line that goes on with what this one has begun."""
    return shlex.join(["mlcli", *sys.argv[1:]]) + ("" if "--resume" in sys.argv else " --resume")


# What the record of the results in a folder holds, such as pairs.json and translate.json
RECORD = schema.record(
    {"options": schema.OBJECT},
    {"command": schema.text(200), "sha256": schema.text(64), "run": schema.text(), "versions": schema.OBJECT},
)


def read_record(begun: Path) -> dict:
    """The record of the results in a folder. Raises UsageError where it cannot be read, or is none."""
    try:
        return schema.read_json(begun, RECORD)
    except (OSError, schema.Invalid) as error:
        told = getattr(error, "strerror", None) or error
        raise UsageError(f"{begun}: cannot be read ({told}); --overwrite makes all anew") from None


def refuse_others(begun: Path, options: dict) -> None:
    """Raise UsageError where the results in a folder, of which the record `begun` tells, were made with others."""
    then = read_record(begun)["options"]
    now = {"accept_truncated": None, "stretch": None, **options, **reading.current().settings()}
    for name, value in now.items():
        if then.get(name) != value:
            raise UsageError(
                f"{begun.parent}: its results were made with {name} {then.get(name)}, not {value}; name another "
                "folder, or --overwrite makes them anew"
            )


def write_beside(output: Path, command: str, options: dict, model=None, **more) -> None:
    """OUTPUT.json beside an image: what reproduces it."""
    write_json(output.with_name(output.name + ".json"), record(command, options, model, **more))


def record(command: str, options: dict, model=None, **more) -> dict:
    """What reproduces a result, and `more` that is to be said of it."""
    return {
        "command": command,
        "options": {**options, **reading.current().settings()},
        **({} if model is None else {"model_hash": model.hash}),
        "versions": versions(),
        **more,
    }

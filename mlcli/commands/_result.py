"""Where a command's result goes: stdout, or a file that is refused if it exists."""

import os
from pathlib import Path

from mlcli.commands._report import out
from mlcli.engine.files import write_json, write_text
from mlcli.engine.runs import versions
from mlcli.errors import UsageError


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
    """Raise UsageError where something stands at `output` that may not be replaced. Devices (/dev/stdout) may be."""
    if output is None:
        return
    if os.path.isdir(output):
        raise UsageError(f"{output}: a folder; give the name of a file")
    if os.path.isfile(output) and not overwrite:
        raise UsageError(f"{output}: exists already; --overwrite replaces it")


def write_beside(output: Path, command: str, options: dict, model=None, **more) -> None:
    """OUTPUT.json beside a picture: what reproduces it."""
    record = {
        "command": command,
        "options": options,
        **({} if model is None else {"model_hash": model.hash}),
        "versions": versions(),
        **more,
    }
    write_json(output.with_name(output.name + ".json"), record)

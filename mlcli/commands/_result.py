"""Where a command's result goes: stdout, or a file that is refused if it exists."""

from pathlib import Path

from mlcli.api.outputs import refuse_existing
from mlcli.commands._report import out
from mlcli.io.files import write_text


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

"""Where the rows of many images go as they are made: a file that an interrupted command resumes, or a pipe.

JSON Lines grow in the file itself, whose last line says that it is complete. CSV and Parquet, which have no such line,
grow in FILE.partial, and FILE appears when it is complete. The JSON beside the file that grows says how it is made and
how much of it is on the disk; that beside the complete FILE says how it was made.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from mlcli.api import outputs
from mlcli.counting import counted
from mlcli.errors import MlcliError, UsageError
from mlcli.io import schema
from mlcli.io.files import check_writable, write_json
from mlcli.io.growing_file import GrowingFile
from mlcli.io.row_formats import RowFormat, arrow_to_parquet

SECONDS = 5.0  # between the times at which what is written is made safe
PARTIAL = ".partial"
STREAMED = ("csv", "jsonl", "parquet")  # formats of files that grow

COUNT = schema.integer(0, 1 << 50)
ROWS_RECORD = schema.record(
    {
        "command": schema.text(200),
        "options": schema.OBJECT,
        "format": schema.choice(*STREAMED),
        "inputs": schema.record({"images": COUNT, "sha256": schema.text(64)}),
        "complete": schema.boolean,
        "images": COUNT,
        "errors": COUNT,
    },
    {"bytes": COUNT, "model_hash": schema.text(64), "shard": schema.text(40), "versions": schema.OBJECT},
)
COUNTS = ("complete", "images", "errors", "bytes")  # of a record, what changes while the file grows


def record_of(file: Path) -> Path:
    """The JSON beside a file."""
    return file.with_name(f"{file.name}.json")


def growing(output: Path, format: str) -> Path:
    """The file that grows until `output` is complete."""
    return output if format == "jsonl" else output.with_name(output.name + PARTIAL)


def read_record(file: Path) -> dict[str, Any]:
    """The record of rows, beside their file. Raises UsageError where it cannot be read, or is none."""
    record = record_of(file)
    try:
        return schema.read_json(record, ROWS_RECORD)
    except (OSError, schema.Invalid) as error:
        told = getattr(error, "strerror", None) or error
        raise UsageError(f"{record}: cannot be read ({told}); --overwrite makes {file} from scratch") from None


def refuse_existing_rows(output: Path, format: str, *, overwrite: bool, resume: bool) -> None:
    """Raise UsageError where something stands at `output` that may be neither replaced nor resumed.

    And MlcliError where no file can be written there.
    """
    check_writable(output)
    if os.path.isdir(output):
        raise UsageError(f"{output}: a folder; give the name of a file")
    partial = growing(output, format)
    if overwrite or resume or not (os.path.lexists(output) or os.path.lexists(partial)):
        return
    if os.path.isfile(record_of(partial)) and not (told := read_record(partial))["complete"]:
        raise UsageError(
            f"{output}: holds the first {counted(told['images'], 'image')} of a command that was interrupted; "
            f"--resume resumes it, --overwrite replaces it"
        )
    raise UsageError(f"{output}: exists already; --overwrite replaces it")


class Row(Protocol):
    """What is made of an image, or of several.  error: why there is nothing; else empty."""

    @property
    def error(self) -> str: ...

    def as_json(self) -> dict[str, Any]: ...


class Rows:
    """Takes rows in order, and keeps them.

    images, errors: how many it has, in earlier calls too. complete: nothing is left to do.
    """

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.images = self.errors = 0
        self.complete = False

    def add(self, rows: Sequence[Row]) -> None:
        """Take the rows of the next images."""
        self.take(rows)
        self.images += len(rows)
        self.errors += sum(bool(row.error) for row in rows)

    def take(self, rows: Sequence[Row]) -> None:
        self.kept += rows

    def finish(self) -> None:
        """All rows have come."""

    def close(self) -> None:
        """No more rows come, whether all have come or not."""


class PipedRows(Rows):
    """Rows that are handed on as bytes, to stdout or a pipe.

    end: number of images that the last row tells; None for a part that does not end the whole.
    """

    def __init__(self, write: Callable[[bytes], Any], format: RowFormat, end: int | None) -> None:
        super().__init__()
        self.write, self.format, self.end = write, format, end
        self.write(format.start())

    def take(self, rows: Sequence[Row]) -> None:
        self.write(self.format.rows([row.as_json() for row in rows]))

    def finish(self) -> None:
        if self.end is not None:
            self.write(self.format.end(self.end))


class RowFile(Rows):
    """Rows in a file that can be resumed; its lock is held by who opens it.

    record: how the rows are made: what `outputs.record` gives, with `format`, `inputs`, and `shard` of a part.
    end: as of `PipedRows`. Raises UsageError where the file to resume was made otherwise.
    """

    def __init__(
        self, output: Path, format: RowFormat, record: dict[str, Any], end: int | None, *, resume: bool
    ) -> None:
        super().__init__()
        self.output, self.format, self.record, self.end = output, format, record, end
        self.partial = growing(output, record["format"])
        self.file: GrowingFile | None = None
        size = 0
        if resume and self._begun():
            appears = self.partial != output and os.path.lexists(record_of(self.partial))
            told = read_record(self.partial if appears else output)
            self._refuse_others(told)
            self.images, self.errors, size = told["images"], told["errors"], told.get("bytes", 0)
            self.record = {name: value for name, value in told.items() if name not in COUNTS}
            if told["complete"]:
                if appears:
                    self._appear()
                elif not os.path.isfile(output) or os.path.getsize(output) != size:
                    raise UsageError(f"{output}: has been changed since it was complete; --overwrite makes it again")
                self.complete = True
                return
        # The record comes before the file: what a killed command has left in that is then cut off
        self._save(size)
        self.file = GrowingFile(self.partial, size)
        if not size:
            self.file.append(format.start())

    def take(self, rows: Sequence[Row]) -> None:
        assert self.file is not None
        with self._advising():
            if time.monotonic() - self.saved > SECONDS:
                self._save(self.file.flush())
            self.file.append(self.format.rows([row.as_json() for row in rows]))

    def finish(self) -> None:
        assert self.file is not None
        with self._advising():
            if self.end is not None:
                self.file.append(self.format.end(self.end))
            size = self.file.flush()
            self._leave()
            if self.partial != self.output:
                self._save(size, complete=True)
            self._appear()
        self.complete = True

    def close(self) -> None:
        if not self.complete and self.file is not None:
            with suppress(MlcliError):  # then more of it is made again
                self._save(self.file.flush())
            self._leave()

    @contextmanager
    def _advising(self) -> Iterator[None]:
        """Say of what cannot be written how the work is resumed. The file is as the last record says, or longer."""
        try:
            yield
        except MlcliError as error:
            self._leave()
            raise MlcliError(f"{error}; then {outputs.resume_command()} resumes") from error

    def _leave(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def _begun(self) -> bool:
        """Whether there is something to resume. A file without a record was made by something else."""
        files = [self.output, self.partial]
        if any(os.path.lexists(record_of(file)) for file in files):
            return True
        if any(os.path.lexists(file) for file in files):
            raise UsageError(
                f"{self.output}: cannot be resumed without its record {record_of(self.partial).name}; --overwrite "
                "makes it from scratch"
            )
        return False

    def _save(self, size: int, *, complete: bool = False) -> None:
        """Write the record: how much of the file is on the disk."""
        counts = {"complete": complete, "images": self.images, "errors": self.errors, "bytes": size}
        write_json(record_of(self.partial), {**self.record, **counts})
        self.saved = time.monotonic()

    def _appear(self) -> None:
        """Let the complete file appear under its name, with its record; a killed command may have done a part of it."""
        done = {"complete": True, "images": self.images}
        if self.partial != self.output and os.path.lexists(self.partial):
            if self.record["format"] == "parquet":
                shard = {"shard": self.record["shard"]} if "shard" in self.record else {}
                arrow_to_parquet(self.partial, self.output, {**done, **shard})
                self.partial.unlink()
            else:
                os.replace(self.partial, self.output)
        counts = {**done, "errors": self.errors, "bytes": os.path.getsize(self.output)}
        write_json(record_of(self.output), {**self.record, **counts})
        if self.partial != self.output:
            record_of(self.partial).unlink(missing_ok=True)

    def _refuse_others(self, told: Mapping[str, Any]) -> None:
        """Raise UsageError where the rows so far were made of other images, or with another model or other options."""
        then, now = ({**each["options"], **_apart(each)} for each in (told, self.record))
        skipped = {"images"}  # the list of them is compared
        for name in [*now, *(name for name in then if name not in now)]:
            if name not in skipped and then.get(name) != now.get(name):
                raise UsageError(
                    f"{self.output}: was begun with {name} {then.get(name)}, not {now.get(name)}; resume with the "
                    "same, name another file, or --overwrite makes it from scratch"
                )
        if told["inputs"] != self.record["inputs"]:
            before, after = (each["inputs"]["images"] for each in (told, self.record))
            difference = f"had {before:,}, has {after:,}" if before != after else "has other names, or another order"
            raise UsageError(
                f"{self.output}: the list of images has changed since it was begun ({difference}); give the same "
                "images to resume, name another file for others, or --overwrite makes it from scratch"
            )


def _apart(record: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a record beside its options."""
    named = {"command": "command", "format": "format", "shard": "shard", "model_hash": "model hash"}
    return {words: record.get(name) for name, words in named.items()}

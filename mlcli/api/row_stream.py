"""Commands that go over images and write a row of each as they go: options, division of the work, resuming.

Memory does not grow with the number of images, but for the list of their names. Batches are made of the same images
whatever process computes them, so one process, several that torchrun starts, the parts of a job array and a resumed
command write the same bytes.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlcli.api import common, outputs
from mlcli.api.call import Call, Config
from mlcli.api.events import Progress, say
from mlcli.api.row_files import STREAMED, PipedRows, Row, RowFile, Rows, refuse_existing_rows
from mlcli.counting import counted
from mlcli.errors import Interrupted, MlcliError, UsageError
from mlcli.io import locks, tally
from mlcli.io.descriptors import Descriptor, descriptor_behind
from mlcli.options import OUTPUT, option
from mlcli.runtime.batch_division import Batches, Shard

if TYPE_CHECKING:
    from mlcli.io.row_formats import Columns
    from mlcli.runtime.processes import Processes

FORMATS = ("table", "json", *STREAMED)
SETTLED = 10_000  # images after which the tally keeps numbers alone
T = TypeVar("T")
R = TypeVar("R", bound=Row)


def resume() -> Any:
    return option(False, "Resume a csv, jsonl or parquet file that was interrupted.", panel=OUTPUT)


@dataclass(frozen=True, kw_only=True)
class WritesRows(Config):
    """A row of each image: in one document, or written as it is made."""

    output: Path | None = option(
        None, "File to write the result to, in place of stdout.", "-o", "--output", path="file", panel=OUTPUT
    )
    format: str = option(
        "table",
        "Format of the result; csv, jsonl and parquet are written while it is computed.",
        choices=FORMATS,
        panel=OUTPUT,
    )
    overwrite: bool = common.overwrite()
    resume: bool = resume()
    shard: str | None = common.shard("; `mlcli merge` joins the parts")


class RowStream:
    """The rows of one call. Its options are those of `WritesRows`.

    kept: the rows that are written nowhere.  errors: number of rows that are errors, of earlier calls too.
    """

    def __init__(self, call: Call[Any], processes: "Processes") -> None:
        """Check the options and hold the lock of the file, before any work.

        Raises UsageError for options that do not go together and for a file that is there, BusyError where another
        process writes it.
        """
        self.call, self.processes = call, processes
        self.shard = Shard.parse(call.config.shard)
        self.streams = streams(call)
        self.in_file = self.streams and call.config.output is not None and not _is_pipe(call.config.output)
        self.kept: list[Any] = []
        self.errors = 0
        self._check()
        processes.by_first(self._claim)

    def fill(
        self,
        items: Sequence[T],
        make: Callable[[Sequence[T]], Iterator[R]],
        columns: "Columns",
        record: dict[str, Any],
        *,
        batch_size: int,
    ) -> None:
        """Make the row of each item, and write it or keep it.

        make: the rows of some items, in order.  record: how rows are made, as of `outputs.record`.
        Raises UsageError where a file to resume was made otherwise; Interrupted after a signal.
        """
        from mlcli.runtime import signals

        processes = self.processes
        whole = self.shard.items(len(items), batch_size)
        rows: Rows | None = None

        def begin() -> tuple[int, int, bool]:
            nonlocal rows
            rows = self._rows(columns, record, items)
            return rows.images, rows.errors, rows.complete

        images, self.errors, complete = processes.by_first(begin)
        if complete:
            say(f"{self.call.config.output}: complete already, {counted(images, 'image')}")
            return
        numbers = self.shard.batches(len(items), batch_size)[-(-images // batch_size) :]  # the last may not be full
        made = make(Batches(items, batch_size, numbers[processes.rank :: processes.count]))
        with ExitStack() as stack:
            if rows is not None:
                stack.callback(rows.close)
            caught: list[int] = stack.enter_context(signals.noted()) if self.in_file else []
            bar = stack.enter_context(Progress(len(whole), self.call.name, start=images))
            settled = images
            for _ in range(-(-len(numbers) // processes.count)):
                for row in self._round(made, batch_size, caught, rows):
                    images += 1
                    if row.error:
                        self.errors += 1
                        bar.complain(row.error)
                    bar.to(images)
                if images - settled >= SETTLED:
                    tally.current().settle()
                    settled = images
                if ending := self._stops(caught):
                    raise Interrupted(self._interrupted(images, len(whole)), ending[0])
            if rows is not None:
                rows.finish()
                self.kept = rows.kept
        self._count_together()

    def _check(self) -> None:
        config = self.call.config
        if config.resume and config.overwrite:
            raise UsageError("--resume and --overwrite: take one of them")
        if config.format not in STREAMED and (config.resume or config.shard):
            option = "--resume" if config.resume else "--shard"
            raise UsageError(f"{option}: for results in {', '.join(STREAMED)}; name one with --format")
        if config.output is None and (config.resume or config.format == "parquet"):
            option = "--resume" if config.resume else "--format parquet"
            raise UsageError(f"{option}: needs a file; name it with -o FILE")
        if self.call.words is None and config.output is not None and config.format not in STREAMED:
            raise UsageError(f"format {config.format}: of an output, take one of {', '.join(STREAMED)}")
        if self.streams and not self.in_file and (config.resume or config.format == "parquet"):
            raise UsageError(f"{config.output}: no regular file, which --resume and --format parquet need")
        if self.streams and config.format == "parquet":
            from mlcli.io.row_formats import required

            required("pyarrow")

    def _claim(self) -> None:
        """Refuse what stands at the output, and hold its lock."""
        config = self.call.config
        if not self.in_file:
            outputs.refuse_existing(config.output, config.overwrite)
            return
        choices = {"overwrite": config.overwrite, "resume": config.resume}
        refuse_existing_rows(config.output, config.format, **choices)
        self.call.hold(locks.file_locked(config.output))
        refuse_existing_rows(config.output, config.format, **choices)  # another process may have begun it meanwhile

    def _rows(self, columns: "Columns", record: dict[str, Any], items: Sequence[Any]) -> Rows:
        """Where the rows of the first process go."""
        from mlcli.io.row_formats import row_format

        config, part = self.call.config, self.shard
        if not self.streams:
            return Rows()
        format, end = row_format(config.format, columns), len(items) if part.number == part.count else None
        if self.in_file:
            inputs = {"images": len(items), "sha256": _digest(items)}
            of_part = {"shard": str(part)} if config.shard else {}
            described = {**record, "format": config.format, "inputs": inputs, **of_part}
            return RowFile(config.output, format, described, end, resume=config.resume)
        if config.output is None:
            assert self.call.write is not None
            return PipedRows(self.call.write, format, end)
        number = descriptor_behind(config.output)
        opened = os.open(config.output, os.O_WRONLY) if number is None else os.dup(number)
        return PipedRows(self.call.hold(Descriptor(opened, closefd=True)).write, format, end)

    def _round(self, made: Iterator[R], batch_size: int, caught: Sequence[int], rows: Rows | None) -> list[R]:
        """The rows of one batch of each process, in order, which the first process has written or kept."""
        from mlcli.runtime.processes import of_another_process

        own: list[R] = []
        problem: MlcliError | None = None
        try:
            for row in made:
                own.append(row)
                if len(own) == batch_size:
                    break
        except MlcliError as error:
            problem = error
        told = None if problem is None else (str(problem), problem.exit_status)
        gathered = self.processes.gather((own, told))
        if problem is not None:
            raise problem
        for _, failed in gathered:
            if failed is not None:
                raise of_another_process(*failed)
        new = [row for part, _ in gathered for row in part]
        if rows is not None:
            rows.add(new)
        return new

    def _stops(self, caught: Sequence[int]) -> Sequence[int]:
        """The signals that any of the processes has caught, so that all stop after the same round."""
        if self.processes.count == 1:
            return caught
        return [number for each in self.processes.gather(list(caught)) for number in each]

    def _interrupted(self, images: int, count: int) -> str:
        again = outputs.resume_command() if self.processes.count == 1 else "the same command with --resume"
        return f"{self.call.config.output}: interrupted after {images:,} of {counted(count, 'image')}; {again} resumes"

    def _count_together(self) -> None:
        """Let the tally of the first process have what all have met."""
        if self.processes.count > 1:
            own = tally.current()
            gathered = self.processes.gather(own.counts())
            if self.processes.main:
                for counts in gathered[1:]:
                    own.add(counts)


def streams(call: Call[Any]) -> bool:
    """Whether rows are written while they are made, and not kept."""
    config = call.config
    return config.format in STREAMED and (config.output is not None or call.write is not None)


def _is_pipe(output: Path) -> bool:
    """Whether an output is written where it stands: an open descriptor, a pipe or a device."""
    if descriptor_behind(output) is not None:
        return True
    try:
        mode = os.stat(output).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _digest(items: Sequence[Any]) -> str:
    """SHA-256 over the names of the items; the parts of one that has several are separated."""
    total = hashlib.sha256()
    for each in items:
        for part in each if isinstance(each, tuple) else (each,):
            total.update(str(part).encode("utf-8", "surrogateescape") + b"\0")
        total.update(b"\n")
    return total.hexdigest()

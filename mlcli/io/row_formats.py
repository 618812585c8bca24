"""Rows of results as the bytes of a file that grows: JSON Lines, CSV, and Arrow, which becomes Parquet in the end."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlcli.errors import UsageError
from mlcli.io.csv_rows import csv_lines
from mlcli.io.files import atomic_write, plain

ROW_GROUP = 16_384  # lines of a row group of Parquet, whatever the pieces that the lines come in
COMPLETE = "mlcli"  # key of the metadata of a Parquet file that say it is complete


@dataclass(frozen=True)
class Columns:
    """Results as a table.

    types: of each column: "text", "integer", "number", "flag", or a whole number: the length of a vector.
    lines: gives the lines of one result as JSON has it, a value for each column, None where there is none.
    """

    types: Mapping[str, str | int]
    lines: Callable[[Mapping[str, Any]], Iterable[Sequence[Any]]]


class RowFormat(Protocol):
    """How results become bytes. A file is `start`, the `rows` of all results in order, and `end`."""

    def start(self) -> bytes: ...

    def rows(self, results: Sequence[Mapping[str, Any]]) -> bytes: ...

    def end(self, images: int) -> bytes: ...


class JsonLines:
    """One JSON object a line for each result; the last line says that all are there, and how many."""

    def start(self) -> bytes:
        return b""

    def rows(self, results: Sequence[Mapping[str, Any]]) -> bytes:
        return b"".join(map(self._line, results))

    def end(self, images: int) -> bytes:
        return self._line({"complete": True, "images": images})

    @staticmethod
    def _line(value: object) -> bytes:
        try:
            return (json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n").encode()
        except UnicodeEncodeError:  # a file name that is not UTF-8
            return (json.dumps(plain(value), allow_nan=False) + "\n").encode()


class Csv:
    """A header and the lines of each result. A vector has a column for each of its values."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def start(self) -> bytes:
        names: list[str] = []
        for name, kind in self.columns.types.items():
            names += [name] if isinstance(kind, str) else [f"{name}_{index}" for index in range(kind)]
        return self._encoded([names])

    def rows(self, results: Sequence[Mapping[str, Any]]) -> bytes:
        return self._encoded(self._cells(line) for result in results for line in self.columns.lines(result))

    def end(self, images: int) -> bytes:
        return b""

    def _cells(self, line: Sequence[Any]) -> list[Any]:
        cells: list[Any] = []
        for kind, value in zip(self.columns.types.values(), line, strict=True):
            cells += [value] if isinstance(kind, str) else [None] * kind if value is None else value
        return cells

    @staticmethod
    def _encoded(lines: Iterable[Sequence[Any]]) -> bytes:
        return csv_lines(lines).encode("utf-8", "surrogateescape")


class Arrow:
    """The stream format of Arrow, which can be cut after any of its messages; `write_parquet` makes Parquet of it."""

    def __init__(self, columns: Columns) -> None:
        self.columns, self.arrow = columns, required("pyarrow")
        types = {"text": self.arrow.string(), "integer": self.arrow.int64(), "number": self.arrow.float64()}
        types["flag"] = self.arrow.bool_()
        # Named as Parquet names it, so that what is read from a part is the same
        vector = self.arrow.list_(self.arrow.field("element", self.arrow.float32()))
        self.schema = self.arrow.schema(
            [(name, types[kind] if isinstance(kind, str) else vector) for name, kind in columns.types.items()]
        )

    def start(self) -> bytes:
        return self.schema.serialize().to_pybytes()

    def rows(self, results: Sequence[Mapping[str, Any]]) -> bytes:
        lines = [line for result in results for line in self.columns.lines(result)]
        arrays = [
            self.arrow.array([_valid(line[index]) for line in lines], field.type)
            for index, field in enumerate(self.schema)
        ]
        return self.arrow.record_batch(arrays, schema=self.schema).serialize().to_pybytes() if lines else b""

    def end(self, images: int) -> bytes:
        return b""


def _valid(value: object) -> object:
    """A value as Arrow takes it; what is not UTF-8 in a file name becomes escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value


def row_format(name: str, columns: Columns) -> RowFormat:
    """The format of this name: jsonl, csv or parquet. Raises UsageError where a library for it is missing."""
    if name == "jsonl":
        return JsonLines()
    return Csv(columns) if name == "csv" else Arrow(columns)


def required(library: str) -> Any:
    """pyarrow, or a module of it. Raises UsageError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError:
        raise UsageError("Parquet needs pyarrow; `pip install pyarrow`, or take --format jsonl") from None


def write_parquet(batches: Iterable[Any], schema: Any, file: Path, complete: Mapping[str, Any]) -> None:
    """Write record batches of Arrow as Parquet, in row groups of ROW_GROUP lines.

    complete: what the metadata of the file say of it.
    """
    arrow, parquet = required("pyarrow"), required("pyarrow.parquet")
    schema = schema.with_metadata({COMPLETE: json.dumps(complete)})
    with atomic_write(file) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for group in _groups(arrow, batches, schema):
            writer.write_table(group, row_group_size=ROW_GROUP)


def _groups(arrow: Any, batches: Iterable[Any], schema: Any) -> Iterator[Any]:
    """The lines of the batches as tables of ROW_GROUP lines each; the last may have fewer."""
    waiting: list[Any] = []
    count = 0
    for batch in batches:
        waiting.append(batch.replace_schema_metadata(schema.metadata))
        count += len(batch)
        while count >= ROW_GROUP:
            table = arrow.Table.from_batches(waiting, schema)
            yield table.slice(0, ROW_GROUP).combine_chunks()
            waiting = table.slice(ROW_GROUP).to_batches()
            count -= ROW_GROUP
    if count:
        yield arrow.Table.from_batches(waiting, schema).combine_chunks()


def arrow_to_parquet(rows: Path, file: Path, complete: Mapping[str, Any]) -> None:
    """Write the lines of a file that `Arrow` gave as Parquet."""
    arrow = required("pyarrow")
    with arrow.OSFile(str(rows)) as source, required("pyarrow.ipc").open_stream(source) as stream:
        write_parquet(stream, stream.schema, file, complete)


def join_parquet(parts: Iterable[Path], file: Path, complete: Mapping[str, Any]) -> None:
    """Write the lines of Parquet files as one."""
    parquet = required("pyarrow.parquet")

    rest = iter(parts)
    first = next(rest)

    def batches() -> Iterator[Any]:
        for part in itertools.chain([first], rest):
            with parquet.ParquetFile(part) as opened:
                yield from opened.iter_batches(ROW_GROUP)

    write_parquet(batches(), parquet.read_schema(first), file, complete)

"""Parquet files with a column of images, as data sets of the Hugging Face Hub have: each row is a member.

A column holds the bytes of image files, or structs {bytes, path}. A row is named by its path where all rows have one
and no two are equal, else by its number.
"""

import io
import json
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from typing import Any, BinaryIO

from mlcli.counting import counted
from mlcli.errors import reason
from mlcli.io.archives import recent
from mlcli.io.archives.archive import MEMBER_BYTES, Archive, ArchiveError, IndexBuilder

IMAGES = ("image", "img", "jpg", "jpeg", "png", "picture", "photo", "bytes")  # names of columns, the most likely first
LABELS = ("label", "labels", "class", "cls", "category", "fine_label")
MOST_ROWS = 20_000_000
ROWS = 32  # that are decoded at a time
KEPT = 64 << 20  # bytes of the rows behind the reader, for threads that come a little later


class ParquetArchive(Archive):
    """An index of a Parquet file."""

    images = True

    def index(self) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ArchiveError("to read Parquet files, `pip install pyarrow`") from None
        self._errors = (pyarrow.ArrowException, OSError, ValueError)
        self._lock = threading.Lock()
        self._file: Any = None
        self.release()
        try:
            with parquet.ParquetFile(self.path) as file:
                self._describe(file)
                groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                self._starts = [sum(groups[:number]) for number in range(len(groups))]  # first row of each row group
                names = self._row_names(file)
        except self._errors as error:
            raise ArchiveError(f"cannot be read as a Parquet file ({reason(error)})") from None
        builder = IndexBuilder(self.left_out, 1)
        for row, name in enumerate(names):
            if (clean := builder.accept(name)) is not None:
                builder.add(clean, row)
        self.names, (self._rows,) = builder.sorted()

    def release(self) -> None:
        """Hold nothing in memory any more."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None
            self._window: deque[tuple[int, bytes | None]] = deque()  # (row, its bytes), up to where the reader is
            self._reader: Iterator[tuple[int, bytes | None]] = iter(())
            self._next, self._held = 0, 0

    def _describe(self, file: Any) -> None:
        """Find the column of images and that of labels."""
        import pyarrow

        schema = file.schema_arrow
        features: dict[str, Any] = {}
        try:
            features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        except (KeyError, TypeError, ValueError):
            features = {}
        features = {name: each for name, each in features.items() if isinstance(each, dict)}

        def holds_bytes(kind: Any) -> bool:
            return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

        def holds_images(kind: Any) -> bool:
            if pyarrow.types.is_struct(kind):
                return any(kind.field(number).name == "bytes" for number in range(kind.num_fields))
            return holds_bytes(kind)

        columns = [field.name for field in schema if holds_images(field.type)]
        named = [name for name, each in features.items() if each.get("_type") == "Image" and name in columns]
        likely = named or [name for name in IMAGES if name in columns] or columns
        if not likely or (len(likely) > 1 and likely is columns):
            have = ", ".join(schema.names) or "none"
            raise ArchiveError(f"no column of images, or no telling which; it has the columns {have}")
        self._column = likely[0]
        self._in_struct = pyarrow.types.is_struct(schema.field(self._column).type)
        fields = schema.field(self._column).type if self._in_struct else ()
        self._has_path = any(field.name == "path" for field in fields)
        self._label = next((name for name in LABELS if name in schema.names and name != self._column), None)
        names = features.get(self._label or "", {}).get("names")
        self._class_names = [str(name) for name in names] if isinstance(names, list) else None

    def _row_names(self, file: Any) -> list[str]:
        count = file.metadata.num_rows
        if not 0 <= count <= MOST_ROWS:
            raise ArchiveError(f"declares {counted(count, 'row')}, where {MOST_ROWS:,} at most are read")
        if self._has_path:
            column = f"{self._column}.path"
            table = file.read(columns=[column])
            paths = [path and os.path.normpath(path) for path in table.column(0).combine_chunks().field(0).to_pylist()]
            if all(paths) and len(set(paths)) == count:
                return paths
        return [f"{row:0{max(7, len(str(count)))}d}" for row in range(count)]

    def size(self, number: int) -> int:
        return self.stamp.size  # the row itself would have to be read

    def position(self, number: int) -> int:
        return self._rows[number]

    def labels(self) -> dict[str, str] | None:
        if self._label is None:
            return None
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.path) as file:
                values = file.read(columns=[self._label]).column(0).to_pylist()
        except self._errors as error:
            raise ArchiveError(f"its column {self._label} cannot be read ({reason(error)})") from None
        if len(values) <= max(self._rows, default=-1):
            raise ArchiveError(f"damaged (its column {self._label} has {counted(len(values), 'value')})")
        return {
            name: self._class_name(values[self._rows[number]])
            for number, name in enumerate(self.names)
            if values[self._rows[number]] is not None
        }

    def _class_name(self, value: Any) -> str:
        named = self._class_names is not None and type(value) is int and 0 <= value < len(self._class_names)
        return self._class_names[value] if named and self._class_names else str(value)

    def open(self, number: int) -> BinaryIO:
        row = self._rows[number]
        recent.used(self)
        with self._lock:
            try:
                content = self._read(row)
            except self._errors as error:
                raise ArchiveError(f"cannot be read ({reason(error)})") from None
        if content is None:
            raise ArchiveError("the row holds no bytes of an image")
        if len(content) > MEMBER_BYTES:
            raise ArchiveError(f"of {counted(len(content), 'byte')}, more than is read of a row")
        return io.BytesIO(content)

    def _read(self, row: int) -> bytes | None:
        first = self._window[0][0] if self._window else self._next
        group = bisect_right(self._starts, row) - 1
        if row < first or self._starts[group] > self._next or self._file is None:
            self._begin(group)
        for behind, content in reversed(self._window):
            if behind == row:
                return content
        for at, content in self._reader:
            self._next = at + 1
            self._window.append((at, content))
            self._held += len(content or b"")
            while self._held > KEPT and len(self._window) > 1:
                self._held -= len(self._window.popleft()[1] or b"")
            if at == row:
                return content
        raise ValueError("it has fewer rows than it declares")

    def _begin(self, group: int) -> None:
        """Read on from the first row of a row group."""
        from pyarrow import parquet

        os.close(self.descriptor())  # where the file is another one by now
        if self._file is None:
            self._file = parquet.ParquetFile(self.path)
        self._window.clear()
        self._held, self._next = 0, self._starts[group]
        self._reader = self._after(group)

    def _after(self, group: int) -> Iterator[tuple[int, bytes | None]]:
        column = f"{self._column}.bytes" if self._in_struct else self._column
        row = self._starts[group]
        groups = list(range(group, len(self._starts)))
        for batch in self._file.iter_batches(ROWS, row_groups=groups, columns=[column], use_threads=False):
            values = batch.column(0)
            for value in values.field(0) if self._in_struct else values:
                yield row, value.as_py()
                row += 1

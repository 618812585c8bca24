"""Files of rows that grow, whatever stops them."""

import errno
import json
import os
from dataclasses import dataclass

import pytest

from mlcli.api import row_files
from mlcli.api.row_files import RowFile
from mlcli.errors import MlcliError, UsageError
from mlcli.io import growing_file
from mlcli.io.row_formats import Columns, row_format

COLUMNS = Columns({"image": "text", "score": "number", "error": "text"}, lambda row: [tuple(map(row.get, ORDER))])
ORDER = ("image", "score", "error")
FORMATS = ("jsonl", "csv", "parquet")
COUNT = 10


@dataclass
class Scored:
    image: str
    score: float
    error: str = ""

    def as_json(self):
        return {"image": self.image, "error": self.error} if self.error else {"image": self.image, "score": self.score}


ROWS = [Scored(f"photos/{number}.jpg", number / 8, "empty file" * (number == 3)) for number in range(COUNT)]


def record(format, **more):
    inputs = {"images": COUNT, "sha256": "a" * 64}
    return {"command": "classify", "options": {"top_k": 1, "images": ["x"]}, "format": format, "inputs": inputs, **more}


def opened(output, format, *, resume=False, **more):
    return RowFile(output, row_format(format, COLUMNS), record(format, **more), COUNT, resume=resume)


def filled(rows):
    """All rows that are not there yet, by pairs, to the end."""
    for start in range(rows.images, COUNT, 2):
        rows.add(ROWS[start : start + 2])
    rows.finish()
    rows.close()


@pytest.fixture(params=FORMATS)
def format(request):
    return request.param


@pytest.fixture
def whole(tmp_path, format):
    """(the bytes of a file made in one go, and of its record)."""
    (tmp_path / "whole").mkdir()
    file = tmp_path / "whole" / "rows"
    filled(opened(file, format))
    assert sorted(os.listdir(file.parent)) == ["rows", "rows.json"]
    return file.read_bytes(), (file.parent / "rows.json").read_bytes()


def both(file):
    return file.read_bytes(), row_files.record_of(file).read_bytes()


@pytest.mark.parametrize("safe", [0, 2, 4])
def test_what_a_killed_process_left_behind_the_last_record_is_cut_off(safe, whole, format, tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "SECONDS", float("inf"))
    file = tmp_path / "rows"
    rows = opened(file, format)
    for start in range(0, 6, 2):
        if start == safe:
            rows._save(rows.file.flush())
        rows.add(ROWS[start : start + 2])
    # A torn row, longer than what is to come; the process dies here
    os.write(rows.file._descriptor, b'{"image": "photos/6.jp' * 1000)
    os.close(rows.file._descriptor)
    again = opened(file, format, resume=True)
    assert again.images == safe
    filled(again)
    assert both(file) == whole and sorted(os.listdir(tmp_path)) == ["rows", "rows.json", "whole"]


def test_a_full_disk_says_how_to_resume(whole, format, tmp_path, monkeypatch):
    file, write, room = tmp_path / "rows", os.write, [900 if format == "parquet" else 150]

    def full(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(growing_file.os, "write", full)
    rows = opened(file, format)
    with pytest.raises(MlcliError, match="No space left.*make room.*resume"):
        filled(rows)
    rows.close()
    monkeypatch.setattr(growing_file.os, "write", write)
    assert not json.loads(row_files.record_of(row_files.growing(file, format)).read_text())["complete"]
    filled(opened(file, format, resume=True))
    assert both(file) == whole


@pytest.mark.parametrize("operation", ["replace", "write_json", "unlink", "arrow_to_parquet"])
def test_a_kill_while_the_complete_file_appears(operation, whole, format, tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "SECONDS", -1.0)  # the record tells of rows long before the end
    file, rows, write_json = tmp_path / "rows", opened(tmp_path / "rows", format), row_files.write_json

    def dies(*arguments, **more):
        if operation != "write_json":
            raise KeyboardInterrupt
        if arguments[0] == row_files.record_of(file) and arguments[1]["complete"]:
            raise KeyboardInterrupt
        write_json(*arguments)

    target = {"replace": os, "unlink": type(tmp_path)}.get(operation, row_files)
    with monkeypatch.context() as patch:
        patch.setattr(target, operation, dies)
        try:
            filled(rows)
        except KeyboardInterrupt:
            assert not rows.complete
    again = opened(file, format, resume=True)
    if not again.complete:
        filled(again)
    assert both(file) == whole and sorted(os.listdir(tmp_path)) == ["rows", "rows.json", "whole"]


def test_csv_and_parquet_appear_when_they_are_complete(tmp_path):
    for format in FORMATS:
        file = tmp_path / format
        rows = opened(file, format)
        rows.add(ROWS[:2])
        assert file.exists() == (format == "jsonl")
        filled(rows)
        assert file.exists() and json.loads(row_files.record_of(file).read_text())["errors"] == 1


def test_rows_are_read_as_they_were(tmp_path):
    import pyarrow.parquet

    for format in FORMATS:
        filled(opened(tmp_path / format, format))
    *lines, last = map(json.loads, (tmp_path / "jsonl").read_text().splitlines())
    assert lines == [row.as_json() for row in ROWS] and last == {"complete": True, "images": COUNT}
    text = (tmp_path / "csv").read_text().splitlines()
    assert text[0] == "image,score,error" and text[4] == "photos/3.jpg,,empty file" and len(text) == 1 + COUNT
    table = pyarrow.parquet.read_table(tmp_path / "parquet")
    assert table.column("image").to_pylist() == [row.image for row in ROWS]
    assert table.column("score")[3].as_py() is None
    assert json.loads(table.schema.metadata[b"mlcli"]) == {"complete": True, "images": COUNT}


@pytest.mark.parametrize(
    "change, told",
    [
        ({"inputs": {"images": 9, "sha256": "b" * 64}}, "had 10, has 9"),
        ({"inputs": {"images": 10, "sha256": "b" * 64}}, "other names, or another order"),
        ({"options": {"top_k": 5}}, "with top_k 1, not 5"),
        ({"model_hash": "c" * 64}, "model hash None, not ccc"),
        ({"command": "embed"}, "command classify, not embed"),
        ({"shard": "1/2"}, "shard None, not 1/2"),
    ],
)
@pytest.mark.parametrize("complete", [False, True])
def test_rows_of_something_else_are_not_resumed(complete, change, told, tmp_path):
    rows = opened(tmp_path / "rows", "jsonl")
    rows.add(ROWS[:2])
    if complete:
        filled(rows)
    rows.close()
    before = both(tmp_path / "rows")
    with pytest.raises(UsageError, match=told):
        opened(tmp_path / "rows", "jsonl", resume=True, **change)
    assert both(tmp_path / "rows") == before


def test_a_file_that_another_program_changed_is_not_resumed(tmp_path):
    file = tmp_path / "rows"
    rows = opened(file, "jsonl")
    rows.add(ROWS[:4])
    rows.close()
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(MlcliError, match="has 20 bytes, and .* another program"):
        opened(file, "jsonl", resume=True)
    filled(opened(file, "jsonl"))
    file.write_bytes(b"mine")
    with pytest.raises(UsageError, match="changed since it was complete"):
        opened(file, "jsonl", resume=True)
    row_files.record_of(file).unlink()
    with pytest.raises(UsageError, match="cannot be resumed without its record"):
        opened(file, "jsonl", resume=True)
    row_files.record_of(file).write_text("[]")
    with pytest.raises(UsageError, match="should be an object"):
        opened(file, "jsonl", resume=True)

"""Parquet files with a column of images, each row a member."""

import json

import pytest

from mlcli.errors import ImageError
from mlcli.io import input_files
from mlcli.io.archives import parquet_archive, recent
from tests.archives import image_bytes

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

COLORS = ["red", "blue", "green"]
BYTES = [image_bytes(color) for color in COLORS] * 40


def write(file, columns, *, rows=10, **metadata):
    table = pyarrow.table(columns)
    parquet.write_table(table.replace_schema_metadata(metadata or None), file, row_group_size=rows)
    return file


def read(path) -> bytes:
    with input_files.open_input(path) as stream:
        return stream.read()


def test_rows_of_bytes_are_named_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_archive, "KEPT", 500)
    monkeypatch.setattr(parquet_archive, "ROWS", 3)
    file = write(tmp_path / "a.parquet", {"id": range(120), "image": BYTES, "label": [0, 1, 2] * 40})
    index = input_files.archive(str(file))
    assert index.names == [f"{row:07d}" for row in range(120)]
    for row in [*range(120), *range(119, -1, -7), 60, 3, 119, 0]:
        assert read(file / f"{row:07d}") == BYTES[row]
    assert list(index.labels().items())[:3] == [("0000000", "0"), ("0000001", "1"), ("0000002", "2")]


def test_only_the_files_read_last_hold_bytes_in_memory(tmp_path):
    files = [write(tmp_path / f"{number}.parquet", {"image": BYTES}) for number in range(2 * recent.MOST)]
    for row in (0, 119, 50):
        assert all(read(file / f"{row:07d}") == BYTES[row] for file in files)
    windows = [bool(input_files.archive(str(file))._window) for file in files]
    assert windows == [False] * recent.MOST + [True] * recent.MOST


def test_structs_of_hugging_face_have_paths_and_names_of_classes(tmp_path):
    paths = [f"{row % 3}/{row}.png" for row in range(120)]
    features = {"picture": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": COLORS}}
    file = write(
        tmp_path / "a.parquet",
        {
            "thumbnail": [b"x"] * 120,
            "picture": [{"bytes": content, "path": path} for content, path in zip(BYTES, paths, strict=True)],
            "label": [0, 1, 2] * 40,
        },
        huggingface=json.dumps({"info": {"features": features}}),
    )
    index = input_files.archive(str(file))
    assert index.names == sorted(paths)
    assert all(read(file / path) == content for path, content in zip(paths, BYTES, strict=True))
    assert index.labels() == {path: COLORS[row % 3] for row, path in enumerate(paths)}


@pytest.mark.parametrize("paths", [[None] * 3, ["a.png"] * 3, ["a.png", None, "b.png"]])
def test_paths_that_do_not_name_all_rows_are_not_taken(tmp_path, paths):
    rows = [{"bytes": content, "path": path} for content, path in zip(BYTES, paths, strict=False)]
    file = write(tmp_path / "a.parquet", {"image": rows})
    assert input_files.archive(str(file)).names == ["0000000", "0000001", "0000002"]
    assert read(file / "0000001") == BYTES[1] and input_files.archive(str(file)).labels() is None


def test_names_that_lead_out_and_rows_without_bytes(tmp_path):
    rows = [{"bytes": b"x", "path": "../1.png"}, {"bytes": None, "path": "2.png"}, {"bytes": b"y", "path": "./3.png"}]
    file = write(tmp_path / "a.parquet", {"image": rows})
    index = input_files.archive(str(file))
    assert index.names == ["2.png", "3.png"] and read(file / "3.png") == b"y"
    assert "1 member left out: names that lead out of the archive (../1.png)" in str(index.problems("a")[0])
    with pytest.raises(ImageError, match="2.png: the row holds no bytes"):
        read(file / "2.png")


@pytest.mark.parametrize(
    "columns, said", [({"id": [1]}, "no column of images.*columns id"), ({"a": [b"x"], "b": [b"y"]}, "columns a, b")]
)
def test_no_telling_which_column(tmp_path, columns, said):
    with pytest.raises(ImageError, match=said):
        input_files.archive(str(write(tmp_path / "a.parquet", columns)))


def test_damaged_files_and_metadata(tmp_path):
    file = write(tmp_path / "a.parquet", {"image": BYTES}, huggingface="{")
    assert len(input_files.archive(str(file)).names) == 120
    whole = file.read_bytes()
    for content in (b"", b"PAR1", whole[:-20], whole[:2000], bytes(1000)):
        file.write_bytes(content)
        with pytest.raises(ImageError, match="a.parquet: cannot be read as a Parquet file"):
            input_files.archive(str(file), fresh=True)
    file.write_bytes(whole[:4] + bytes(400) + whole[404:])
    input_files.renew(file)
    with pytest.raises(ImageError, match="0000000: "):
        read(file / "0000000")


def test_without_pyarrow_the_message_says_what_reads_it(tmp_path, monkeypatch):
    file = write(tmp_path / "a.parquet", {"image": BYTES})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImageError, match=r"a.parquet: .*pip install pyarrow"):
        input_files.archive(str(file))

"""Paths into archives, and patterns of names."""

import os
import threading

import pytest

from mlcli.errors import ImageError, UsageError
from mlcli.io import input_files
from tests.archives import write_tar, write_zip


@pytest.fixture
def shard(tmp_path):
    return write_tar(tmp_path / "a.tar", {"cat/1.png": b"one", "cat/sub/2.png": b"two", "top.png": b"top"})


def test_an_archive_is_a_folder(shard, tmp_path):
    assert all(map(input_files.is_folder, (tmp_path, shard, f"{shard}/", shard / "cat", shard / "cat/sub")))
    for path in (shard / "cat/1.png", shard / "ca", shard / "dog", tmp_path / "b.tar", tmp_path / "b.tar/cat", "{a,b}"):
        assert not input_files.is_folder(path)
    assert input_files.split(shard / "cat/1.png") == (str(shard), "cat/1.png")
    assert input_files.split(shard) == (str(shard), "") and input_files.split(tmp_path / "a.png") is None
    assert input_files.file_behind(shard / "cat/1.png") == str(shard)
    assert input_files.folders(shard) == ["cat"] and input_files.folders(shard / "cat") == ["sub"]


def test_a_folder_with_the_name_of_an_archive_stays_one(tmp_path):
    folder = tmp_path / "photos.zip"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"x")
    inner = write_zip(folder / "a.zip", {"2.png": b"y"})
    assert input_files.split(folder) is None and input_files.split(folder / "1.png") is None
    assert input_files.split(inner / "2.png") == (str(inner), "2.png")
    with input_files.open_input(folder / "1.png") as stream:
        assert stream.read() == b"x"


def test_members_that_are_not_there(shard):
    for name, said in (
        ("dog/1.png", "no such member"),
        ("cat", "a folder in an archive"),
        ("../a.tar", "no such member"),
    ):
        with pytest.raises(ImageError, match=f"a.tar/{name}: {said}"):
            input_files.open_input(shard / name)
    with pytest.raises(NotADirectoryError):
        input_files.open_input(f"{__file__}/1.png")
    with pytest.raises(FileNotFoundError):
        input_files.open_input("absent.tar/1.png")


def test_the_mark_changes_with_the_archive(shard):
    before = input_files.mark(shard / "cat/1.png")
    assert before == input_files.mark(shard / "cat/1.png") and before[0] == 3
    assert before != input_files.mark(shard / "top.png") and input_files.mark(shard / "absent.png") is None
    os.utime(shard, ns=(1, 1))
    input_files.renew(shard)
    assert input_files.mark(shard / "cat/1.png") != before


def test_members_are_read_in_parallel(tmp_path):
    """By as many threads as there are, each with a position of its own."""
    members = {f"{number}.png": os.urandom(5000 + number) for number in range(50)}
    wrong = []

    def read_all(file):
        for name, content in [*members.items(), *reversed(members.items())]:
            with input_files.open_input(file / name) as stream:
                stream.seek(2500)
                if stream.read() != content[2500:]:
                    wrong.append(name)

    files = [
        write_tar(tmp_path / "a.tar", members), write_tar(tmp_path / "b.tar.gz", members, "w:gz"),
        write_zip(tmp_path / "c.zip", members),
    ]  # fmt: skip
    threads = [threading.Thread(target=read_all, args=[file]) for file in files * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("s-{000..002}.tar", ["s-000.tar", "s-001.tar", "s-002.tar"]),
        ("s-{8..11}.tar", ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]),
        ("{train,val}-{1..2}.tar", ["train-1.tar", "train-2.tar", "val-1.tar", "val-2.tar"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,{b,c}}", ["a", "b", "a", "c"]),
        ("plain.tar", ["plain.tar"]),
        ("{}", ["{}"]),
        ("{a..b}", ["{a..b}"]),
        ("a{b", ["a{b"]),
    ],
)
def test_braces_are_expanded_as_by_a_shell(pattern, names):
    assert input_files.expanded(pattern) == names


def test_a_name_with_braces_that_is_there_is_that_file(tmp_path, monkeypatch):
    monkeypatch.setattr(input_files, "MOST_NAMES", 1000)
    (tmp_path / "{a,b}.png").write_bytes(b"")
    assert input_files.expanded(tmp_path / "{a,b}.png") == [str(tmp_path / "{a,b}.png")]
    with pytest.raises(UsageError, match="more than 1,000 names"):
        input_files.expanded("{0..9999999}.tar")
    with pytest.raises(UsageError, match="more than 1,000 names"):
        input_files.expanded("{0..9999}{0..9999}.tar")

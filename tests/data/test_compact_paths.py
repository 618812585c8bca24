import os
import pickle
import tracemalloc
from pathlib import Path

import pytest

from mlcli.data.compact_paths import PathList


def test_it_is_a_sequence_of_paths():
    names = ["a.png", "/b/ä.png", os.fsdecode(b"c/\xff.png"), "d"]
    paths = PathList(names)
    assert list(paths) == [Path(name) for name in names] == [paths[index] for index in range(4)]
    assert paths[-1] == Path("d") and paths[1:3] == [Path(name) for name in names[1:3]] and len(paths) == 4
    assert paths == [Path(name) for name in names] and paths != PathList() and Path("d") in paths
    assert pickle.loads(pickle.dumps(paths)) == paths and not PathList()
    with pytest.raises(IndexError):
        paths[4]


def test_repeated_paths_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["a.png", "b.png", tmp_path / "a.png", "c/a.png", "b.png", "d.png"]
    assert PathList(given).without_repeated() == [Path(name) for name in ("a.png", "b.png", "c/a.png", "d.png")]
    single = PathList(["a.png", "b.png"])
    assert single.without_repeated() is single


def test_it_takes_little_memory():
    names = [f"folder/of/images/{number:06d}.jpg" for number in range(10_000)]
    tracemalloc.start()
    paths = PathList(names)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 50 * len(paths)  # bytes for each

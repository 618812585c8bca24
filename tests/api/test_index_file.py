"""Where the index of a folder is."""

import os
from pathlib import Path

import pytest

from mlcli.api import index_file
from mlcli.errors import UsageError

MADE = {"architecture": "cifarnet", "model_hash": "ab", "preprocessing": {"crop": 32}, "layer": "features"}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("holiday/1.png", "holiday/sea/2.png", "home/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def index(*given: Path | str, images: list[Path] | None = None, **made_with: object) -> Path:
    """The index of what is given, which holds these images, by default all those in the folders and the files."""
    found = [file for path in map(Path, given) for file in (path.rglob("*.png") if path.is_dir() else [path])]
    return index_file.default_index([str(path) for path in given], images or sorted(found), MADE | made_with)


def test_it_is_in_the_cache_of_the_user_and_named_for_what_it_holds(photos):
    file = index(photos / "holiday")
    assert file.parent == photos / "cache" / "mlcli" / "indexes"
    assert file.name.startswith("holiday-cifarnet-features-") and file.suffix == ".safetensors"
    assert index(f"{photos}/holiday/") == file == index(photos / "home" / ".." / "holiday")


def test_each_folder_model_layer_and_preprocessing_has_its_own(photos):
    files = [index(photos / "holiday"), index(photos / "home"), index(photos / "holiday" / "sea")]
    changes = ({"model_hash": "cd"}, {"layer": "conv2"}, {"preprocessing": {"crop": 64}}, {"precision": "bf16"})
    files += [index(photos / "holiday", **change) for change in changes]
    assert len(set(files)) == len(files)


def test_several_folders_share_one_in_any_order(photos):
    both = index(photos / "holiday", photos / "home")
    assert both == index(photos / "home", photos / "holiday")
    # not that of another set of folders, whose processes would wait for each other
    assert len({both, index(photos / "holiday"), index(photos / "home", photos / "holiday" / "sea")}) == 3


def test_a_list_of_files_keeps_its_own_while_it_grows(photos):
    few = [photos / "holiday" / "1.png", photos / "home" / "3.png"]
    more = [*few, photos / "holiday" / "sea" / "2.png"]
    assert index(*few) == index(*more) == index("-", images=more) == index(photos)
    assert index(photos / "holiday", few[1]) == index(photos / "holiday", photos / "home")


def test_any_name_of_a_folder_makes_a_name_of_a_file(photos):
    for name in ("\u5199\u771f" * 80, os.fsdecode(b"\xff\xfe"), "a b\nc"):
        file = index_file.default_index(["-"], [photos / name / "1.png"], MADE | {"layer": "x" * 300})
        assert file.name.isascii() and len(file.name) < 200 and "\n" not in file.name


def test_without_a_cache_or_a_home(photos, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which counts as unset
    monkeypatch.setenv("HOME", str(photos / "me"))
    assert index(photos).parent == photos / "me" / ".cache" / "mlcli" / "indexes"
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(UsageError, match="--index"):
        index(photos)


def test_what_earlier_versions_left_is_found(photos):
    former = photos / "holiday" / ".vectors-cifarnet-features.safetensors"
    former.touch()
    assert index_file.former_indexes([str(photos / "holiday"), "-", str(photos / "home")]) == [former]

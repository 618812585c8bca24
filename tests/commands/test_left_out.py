"""What commands say of the files that they leave out, and of how many they read."""

import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from mlcli.imaging import formats
from mlcli.models import registry
from tests.cli import mlcli
from tests.tiny import class_folders

COMPOSED, TAKEN_APART = (unicodedata.normalize(form, "Füße") for form in ("NFC", "NFD"))
ONE_STEP = ("--steps", 1, "--batch-size", 4, "--precision", "fp32")


@pytest.fixture
def folder(tmp_path):
    """Class folders of 16 pixels, four images each."""
    class_folders(tmp_path / "d", per_class=4)
    return tmp_path / "d"


def summary(result) -> str:
    return result.stderr.splitlines()[-1]


def an_image(folder: Path) -> Path:
    return next(folder.rglob("*.png"))


@pytest.fixture
def without_heif(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    for cached in (formats._formats, formats._by_ending):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (formats._formats, formats._by_ending):
        cached.cache_clear()


def test_phone_images_are_named_with_what_reads_them(folder, colors, without_heif):
    inside = next(folder.iterdir())
    for name in ("IMG_1.HEIC", "IMG_2.heic", "a.jxl"):
        (inside / name).write_bytes(b"x")
    (folder / "list.txt").write_text("no image")
    result = mlcli("classify", folder, "--model", colors, "--format", "csv", status=1)
    assert "2 images in the format HEIC, left out" in result.stderr
    assert "pip install pillow-heif" in result.stderr and "djxl" in result.stderr
    count = len(list(folder.rglob("*.png")))
    assert summary(result) == (
        f"classify: {count} images read; left out: 3 images in formats that are not read (2 HEIC, 1 JPEG XL), "
        "1 other file (1 .txt)"
    )
    alone = mlcli("classify", inside / "IMG_1.HEIC", "--model", colors, status=1)
    assert "pip install pillow-heif" in alone.stderr


def test_nothing_but_such_images(tmp_path, colors):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.dcm").write_bytes(b"x")
    (tmp_path / "d" / "b.txt").write_bytes(b"x")
    result = mlcli("classify", tmp_path / "d", "--model", colors, status=1)
    assert "DCMTK" in result.stderr
    assert "0 images read; left out: 1 image in formats that are not read (1 DICOM), 1 other file (1 .txt)" in summary(
        result
    )


def test_quiet_says_what_is_wrong_and_no_more(folder, colors):
    assert mlcli("classify", folder, "--model", colors, "--format", "csv", "-q").stderr == ""
    (folder / "a.jxl").write_bytes(b"x")
    result = mlcli("classify", folder, "--model", colors, "--format", "csv", "-q", status=1)
    assert len(result.stderr.splitlines()) == 1 and "JPEG XL" in result.stderr


# ------------------------------------------------------------------------------------------ labeled folders


def test_loose_images_beside_class_folders_are_named(folder, tmp_path):
    for name in ("loose.png", "other"):
        shutil.copy(an_image(folder), folder / name)
    words = f"{folder}: 2 images in no class folder, left out ('loose.png', 'other')"
    for number, command in enumerate(("train", "gan")):
        more = (*ONE_STEP, "--compared", 0, "--conditional") if command == "gan" else ONE_STEP
        result = mlcli(command, folder, "-o", tmp_path / f"r{number}", *more)
        assert words in result.stderr and "2 images in no class folder" in summary(result)
        assert result.stderr.count("loose.png") == 1
    run = tmp_path / "r0"
    result = mlcli("classify", folder, "--evaluate", "--model", run)
    assert words in result.stderr and "2 images in no class folder" in summary(result)


def test_a_class_without_a_readable_image_is_not_learned(folder, tmp_path):
    for name in ("unread", "torn"):
        (folder / name).mkdir()
        for number in range(2):
            (folder / name / f"{number}.png").write_bytes(b"nothing" if name == "unread" else b"\x89PNG\r\n\x1a\n")
    known = sorted(path.name for path in folder.iterdir() if path.name not in ("unread", "torn"))
    result = mlcli("train", folder, "-o", tmp_path / "train", *ONE_STEP)
    assert "no image of 'unread' can be used" in result.stderr and "no image of 'torn' can be used" in result.stderr
    assert list(registry.load(str(tmp_path / "train")).classes) == known
    mlcli("train", folder, "-o", tmp_path / "held", "--val", 0.25, *ONE_STEP)
    assert list(registry.load(str(tmp_path / "held")).classes) == known
    mlcli("gan", folder, "--conditional", "-o", tmp_path / "gan", *ONE_STEP, "--compared", 0)
    drawn = mlcli("sample", tmp_path / "gan", "-o", tmp_path / "s.png", "--class", "unread", status=2)
    assert "no class of this generator" in drawn.stderr


def test_nothing_is_learned_of_a_single_class_that_is_left(tmp_path):
    class_folders(tmp_path / "d", per_class=2)
    first, *others = sorted((tmp_path / "d").iterdir())
    for folder in others:
        for file in folder.iterdir():
            file.write_bytes(b"nothing")
    assert "2 are needed" in mlcli("train", tmp_path / "d", "-o", tmp_path / "r", *ONE_STEP, status=1).stderr


def test_a_class_of_unread_formats_alone_says_what_reads_them(folder, tmp_path):
    (folder / "raw").mkdir()
    (folder / "raw" / "a.nef").write_bytes(b"x")
    result = mlcli("train", folder, "-o", tmp_path / "r", *ONE_STEP, status=1)
    assert "no images for 'raw'" in result.stderr and "darktable" in result.stderr


def test_folders_of_the_system_are_no_classes(folder, tmp_path):
    for name in ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found"):
        shutil.copytree(next(folder.iterdir()), tmp_path / "d2" / name)
    shutil.copytree(folder, tmp_path / "d2", dirs_exist_ok=True)
    known = sorted(path.name for path in folder.iterdir())
    result = mlcli("train", tmp_path / "d2", "-o", tmp_path / "r", *ONE_STEP)
    assert list(registry.load(str(tmp_path / "r")).classes) == known
    assert "5 folders of the system" in summary(result)


@pytest.mark.parametrize("parts", [("train", "val"), ("Train", "Test"), ("training", "validation"), ("train", "valid")])
def test_the_root_of_a_divided_set_is_refused_with_the_right_command(folder, tmp_path, monkeypatch, parts):
    for part in parts:
        shutil.copytree(folder, tmp_path / "s" / part)
    words = ["train", str(tmp_path / "s"), "-o", str(tmp_path / "r")]
    monkeypatch.setattr(sys, "argv", ["mlcli", *words])
    result = mlcli(*words, status=1)
    training, held_out = (tmp_path / "s" / part for part in parts)
    assert f"mlcli train {training} -o {tmp_path / 'r'} --val {held_out}" in result.stderr
    assert not (tmp_path / "r").exists()
    # and these words do work
    mlcli("train", training, "-o", tmp_path / "r", "--val", held_out, *ONE_STEP)


def test_other_commands_at_the_root_of_a_divided_set(folder, tmp_path, monkeypatch, colors):
    root = tmp_path / "s"
    for part in ("train", "test"):
        shutil.copytree(folder, root / part)
    for words, right in [
        (["finetune", root, "-o", tmp_path / "r"], f"mlcli finetune {root / 'train'} -o {tmp_path / 'r'} --val"),
        (["classify", root, "--evaluate", "--model", colors], f"mlcli classify {root / 'test'} --evaluate"),
        (["gan", root, "--conditional", "-o", tmp_path / "r"], f"mlcli gan {root / 'train'} --conditional"),
        (["siamese-train", root, "-o", tmp_path / "r"], f"mlcli siamese-train {root / 'train'}"),
        (["train", root / "train", "--val", root, "-o", tmp_path / "r"], f"--val {root / 'test'}"),
    ]:
        monkeypatch.setattr(sys, "argv", ["mlcli", *map(str, words)])
        result = mlcli(*words, status=1)
        assert "parts of a divided data set" in result.stderr and right in result.stderr


# ------------------------------------------------------------------------------------------------- spelling


def test_a_folder_from_a_mac_is_the_same_class(folder, tmp_path):
    first, *_ = sorted(folder.iterdir())
    first.rename(folder / TAKEN_APART)
    mlcli("train", folder, "-o", tmp_path / "r", *ONE_STEP)
    assert TAKEN_APART in registry.load(str(tmp_path / "r")).classes  # as the user has it
    (folder / TAKEN_APART).rename(folder / COMPOSED)
    mlcli("classify", folder, "--evaluate", "--model", tmp_path / "r")
    mlcli("train", folder, "--val", folder, "-o", tmp_path / "r2", *ONE_STEP)
    mlcli("gan", folder, "--conditional", "-o", tmp_path / "gan", *ONE_STEP, "--compared", 0)
    mlcli("sample", tmp_path / "gan", "-o", tmp_path / "s.png", "--class", TAKEN_APART)


def test_a_file_is_found_under_its_other_spelling(folder, colors, tmp_path):
    (tmp_path / TAKEN_APART).mkdir()
    image = tmp_path / TAKEN_APART / f"{TAKEN_APART}.png"
    shutil.copy(an_image(folder), image)
    asked = tmp_path / COMPOSED / f"{COMPOSED}.png"
    if os.path.exists(asked):
        pytest.skip("this file system takes the two for one")
    for words, options in (([asked], {}), (["-"], {"input": f"{asked}\n"})):
        assert str(image) in mlcli("classify", *words, "--model", colors, "--format", "csv", **options).stdout


@pytest.mark.parametrize("text", ["~/x.csv", "~", "~user/x.csv", "=~/x.csv"])
def test_a_tilde_that_no_shell_has_expanded(folder, colors, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    result = mlcli("classify", folder, "--model", colors, "--format", "csv", "-o", text)
    assert f"{text}: taken for a folder named" in result.stderr and (tmp_path / text).exists()


def test_other_names_with_a_tilde_are_no_matter(folder, colors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("x~", "a~/b.csv", "~backup"):
        result = mlcli("classify", folder, "--model", colors, "--format", "csv", "-o", text)
        assert "tilde" not in result.stderr


def test_animations_are_said_to_be_read_in_part(tmp_path, colors):
    first, second = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    first.save(tmp_path / "scan.tif", save_all=True, append_images=[second])
    result = mlcli("classify", tmp_path / "scan.tif", "--model", colors)
    assert "1 of several pages, of which the first is read" in summary(result)

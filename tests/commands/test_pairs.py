import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcli.data.pairing import find_pairs
from mlcli.imaging import image_io
from mlcli.methods.synthesis.configs import INVERSES
from tests.cli import mlcli


def photo(path: Path, seed: int = 0, size=(40, 30)) -> Path:
    """A few patches of color with soft borders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    photo(folder / "a.png", 1)
    photo(folder / "sub" / "b.jpg", 2, (31, 47))
    photo(folder / "c.tif", 3)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in files(folder)}


def older(folder: Path, seconds: float = 100) -> None:
    """As if all had been there for some time."""
    for path in folder.rglob("*"):
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


@pytest.mark.parametrize("make", INVERSES)
def test_pairs_have_equal_names_and_sizes_and_b_is_the_image(photos, tmp_path, make):
    output = tmp_path / "pairs"
    result = mlcli("pairs", photos, "--make", make, "-o", output)
    assert result.stdout == "" and "3 pairs made, 0 up to date" in result.stderr
    names = ["a.png", "c.tif", "sub/b.png"]
    assert files(output) == [*(f"A/{name}" for name in names), *(f"B/{name}" for name in names), "pairs.json"]
    pairing = find_pairs(output)
    assert len(pairing.paths) == 3 and not pairing.problems
    sources = {"a.png": photos / "a.png", "c.tif": photos / "c.tif", "b.png": photos / "sub" / "b.jpg"}
    for a, b in pairing.paths:
        assert image_io.read(b).equal(image_io.read(sources[b.name]))
        assert image_io.read(a).shape == image_io.read(b).shape and not image_io.read(a).equal(image_io.read(b))
        mode = {"edges": "L", "gray": "L", "labels": "P"}.get(make, "RGB")
        assert Image.open(a).mode == mode
    record = json.loads((output / "pairs.json").read_text())
    assert record["command"] == "pairs" and record["options"] == {"make": make, "strength": None, "size": None}


def test_a_second_call_does_nothing_and_a_third_what_has_changed(photos, tmp_path):
    output = tmp_path / "pairs"
    arguments = ("pairs", photos, "--make", "gray", "-o", output)
    mlcli(*arguments)
    before = times(output)
    assert "0 pairs made, 3 up to date" in mlcli(*arguments).stderr and times(output) == before
    older(tmp_path)
    before = times(output)
    photo(photos / "a.png", 9)
    photo(photos / "new.png", 10)
    (output / "B" / "c.tif").unlink()
    assert "3 pairs made, 1 up to date" in mlcli(*arguments).stderr
    changed = {name for name, time in times(output).items() if before.get(name) != time}
    assert changed == {"A/a.png", "B/a.png", "A/new.png", "B/new.png", "A/c.tif", "B/c.tif"}
    assert image_io.read(output / "B" / "a.png").equal(image_io.read(photos / "a.png"))


def test_other_options_are_refused_until_told(photos, tmp_path):
    output = tmp_path / "pairs"
    mlcli("pairs", photos, "--make", "mosaic", "-o", output, "-q")
    older(tmp_path)
    before = times(output)
    told = mlcli("pairs", photos, "--make", "mosaic", "--strength", 8, "-o", output, status=2).stderr
    assert "strength None, not 8.0" in told and times(output) == before
    first = (output / "A" / "a.png").read_bytes()
    mlcli("pairs", photos, "--make", "mosaic", "--strength", 8, "-o", output, "--overwrite")
    assert (output / "A" / "a.png").read_bytes() != first and all(times(output)[name] > before[name] for name in before)
    (output / "pairs.json").write_text("{")
    assert "--overwrite" in mlcli("pairs", photos, "--make", "gray", "-o", output, status=2).stderr
    (output / "pairs.json").unlink()
    assert "holds something" in mlcli("pairs", photos, "--make", "gray", "-o", output, status=2).stderr


def test_bad_images_are_named_and_the_rest_goes_on(photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"no image")
    output = tmp_path / "pairs"
    given = ("pairs", photos, tmp_path / "none.png", "--make", "edges", "-o", output)
    result = mlcli(*given, status=1)
    lines = [line for line in result.stderr.splitlines() if line.startswith("mlcli: ")]
    assert len(lines) == 2 and "broken.jpg" in lines[0] and "none.png: no such file" in lines[1]
    assert "3 pairs made" in result.stderr and len(find_pairs(output).paths) == 3
    again = mlcli(*given, "--quiet", status=1)
    assert "broken.jpg" in again.stderr and len(again.stderr.splitlines()) == 2


def test_interrupted_it_goes_on_where_it_was(photos, tmp_path, monkeypatch):
    from mlcli.methods.synthesis import paired_degradations

    make, calls = paired_degradations.make, []

    def signalling(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return make(*arguments)

    for number in range(30):
        photo(photos / f"{number}.png", number)
    monkeypatch.setattr(paired_degradations, "make", signalling)
    output = tmp_path / "pairs"
    arguments = ("pairs", photos, "--make", "gray", "-o", output, "--workers", 1)
    stopped = mlcli(*arguments, status=130).stderr
    begun = len(calls)
    assert f"interrupted after {begun} of 33 images" in stopped and begun < 20
    monkeypatch.setattr(paired_degradations, "make", make)
    made, kept = map(int, re.search(r"(\d+) pairs made, (\d+) up to date", mlcli(*arguments).stderr).groups())
    assert kept == begun and made + kept == 33 and len(find_pairs(output).paths) == 33


def test_depth_and_gray_are_kept_and_orientation_applied(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    deep = (np.arange(1200).reshape(30, 40) * 50).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray((deep // 256).astype(np.uint8)).save(folder / "gray.bmp")
    rotated = Image.open(photo(folder / "rotated.jpg"))
    exif = rotated.getexif()
    exif[274] = 6
    rotated.save(folder / "rotated.jpg", exif=exif)
    for make in ("blur", "edges"):
        output = tmp_path / make
        mlcli("pairs", folder, "--make", make, "-o", output)
        assert np.array_equal(np.asarray(Image.open(output / "B" / "deep.png")), deep)
        assert Image.open(output / "A" / "deep.png").mode == ("I;16" if make == "blur" else "L")
        assert Image.open(output / "B" / "gray.png").mode == Image.open(output / "A" / "gray.png").mode == "L"
        assert all(Image.open(output / side / "rotated.png").size == (30, 40) for side in "AB")


def test_size(photos, tmp_path):
    for number, (size, expected) in enumerate([("16", (16, 16)), ("24x12", (24, 12))]):
        mlcli("pairs", photos, "--make", "low-resolution", "--size", size, "-o", tmp_path / str(number))
        for pair in find_pairs(tmp_path / str(number)).paths:
            assert {Image.open(path).size for path in pair} == {expected}
    assert (
        "--size 0x9" in mlcli("pairs", photos, "--make", "gray", "--size", "0x9", "-o", tmp_path / "c", status=2).stderr
    )


def test_names_that_would_be_one(photos, tmp_path):
    photo(photos / "a.jpg", 5)
    photo(tmp_path / "more" / "c.tif", 5)
    result = mlcli("pairs", photos, tmp_path / "more", "--make", "gray", "-o", tmp_path / "pairs", status=1)
    assert "a.png: its result would be" in result.stderr and "more/c.tif: its result would be" in result.stderr
    assert image_io.read(tmp_path / "pairs" / "B" / "a.png").equal(image_io.read(photos / "a.jpg"))


def test_results_inside_the_folder_of_the_images_are_no_images(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    for _ in range(2):
        mlcli("pairs", ".", "--make", "gray", "-o", "made")
    assert len(files(photos / "made")) == 7
    assert "the folder of the images itself" in mlcli("pairs", ".", "--make", "gray", "-o", ".", status=2).stderr


def test_what_cannot_be(photos, tmp_path):
    output = tmp_path / "pairs"
    for options, words in [
        (("--make", "gray", "--strength", 2), "--make gray has none"),
        (("--make", "labels", "--strength", 1), "the number of classes, 2 to 256"),
        (("--make", "edges", "--strength", 0), "0.3 to 50"),
        (("--make", "sketch"), "sketch"),
    ]:
        assert words in mlcli("pairs", photos, *options, "-o", output, status=2, env={"COLUMNS": "200"}).stderr
    assert not output.exists()
    (tmp_path / "empty").mkdir()
    assert "no images" in mlcli("pairs", tmp_path / "empty", "--make", "gray", "-o", output, status=1).stderr
    output.write_text("a file")
    assert "a file" in mlcli("pairs", photos, "--make", "gray", "-o", output, status=2).stderr


def test_the_same_bytes_each_time(photos, tmp_path):
    for make in ("edges", "labels"):
        for number in (1, 2):
            mlcli("pairs", photos, "--make", make, "-o", tmp_path / f"{make}{number}", "--workers", number)
        for name in ("A/a.png", "A/c.tif", "B/sub/b.png"):
            assert (tmp_path / f"{make}1" / name).read_bytes() == (tmp_path / f"{make}2" / name).read_bytes()


def test_a_result_that_cannot_be_written_stops_no_other(photos, tmp_path):
    output = tmp_path / "pairs"
    (output / "A" / "a.png").mkdir(parents=True)  # where a result would go
    (output / "B" / "sub").parent.mkdir()
    (output / "B" / "sub").write_text("a file where a folder would go")
    (output / "pairs.json").write_text(json.dumps({"options": {"make": "gray", "strength": None, "size": None}}))
    result = mlcli("pairs", photos, "--make", "gray", "-o", output, status=1)
    told = [line for line in result.stderr.splitlines() if line.startswith("mlcli: ")]
    assert len(told) == 2 and all("cannot be written" in line for line in told)
    assert "1 pair made" in result.stderr and image_io.read(output / "A" / "c.tif").shape[0] == 3
    assert "left out: 2 images whose pair cannot be written" in result.stderr
    (output / "A" / "a.png").rmdir()
    (output / "B" / "sub").unlink()
    assert "2 pairs made, 1 up to date" in mlcli("pairs", photos, "--make", "gray", "-o", output).stderr


def test_images_dated_in_the_future_are_made_once(photos, tmp_path):
    output = tmp_path / "pairs"
    for path in photos.rglob("*.*"):
        os.utime(path, (4_000_000_000, 4_000_000_000))
    arguments = ("pairs", photos, "--make", "gray", "-o", output)
    assert "3 pairs made" in mlcli(*arguments).stderr
    assert "0 pairs made, 3 up to date" in mlcli(*arguments).stderr
    # one that is changed is made again, whether its clock is right by now or not
    photo(photos / "a.png", 9)
    changed = photo(photos / "c.tif", 10)
    os.utime(changed, (4_100_000_000, 4_100_000_000))
    assert "2 pairs made, 1 up to date" in mlcli(*arguments).stderr
    assert "0 pairs made, 3 up to date" in mlcli(*arguments).stderr


def test_a_folder_with_the_name_of_an_image(photos, tmp_path):
    assert "a folder is written" in mlcli("pairs", photos, "--make", "gray", "-o", tmp_path / "p.png", status=2).stderr
    mlcli("pairs", photos, "--make", "gray", "-o", f"{tmp_path / 'p.png'}/")
    assert len(find_pairs(tmp_path / "p.png").paths) == 3

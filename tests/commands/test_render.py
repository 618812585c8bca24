import json
import os
import re
import signal

import pytest
import torch
from PIL import Image

from mlcli.api.render import RECORD
from mlcli.data.folders import ClassFolder
from mlcli.imaging import image_io
from mlcli.methods.synthesis import digits, phantoms
from tests.cli import mlcli


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}


def test_digits_are_a_labeled_set(tmp_path):
    out = tmp_path / "digits"
    result = mlcli("render", "digits", "-n", 43, "--seed", 5, "-o", out)
    assert result.stdout == "" and "43 images of digits, 28 x 28 pixels" in result.stderr
    folder = ClassFolder.open(out)
    assert folder.classes == tuple("0123456789") and len(folder.paths) == 43
    assert [sum(label == c for label in folder.labels) for c in range(10)] == [5, 5, 5] + [4] * 7
    image = image_io.read(out / "7" / "17.png")
    assert torch.equal(image[0], digits.digit(17, 5)[0]) and Image.open(out / "7" / "17.png").mode == "L"
    document = json.loads((out / "render.json").read_text())
    options = {"what": "digits", "count": 43, "size": 28, "style": "a", "seed": 5}
    assert document["options"] == options and document["fonts"] == []
    mlcli("render", "digits", "-n", 43, "--seed", 5, "--workers", 1, "-o", tmp_path / "again", "-q")
    assert files(tmp_path / "again") == files(out)
    mlcli("render", "digits", "-n", 20, "--seed", 5, "--size", 32, "--fonts", "-o", tmp_path / "fonts")
    assert image_io.read(tmp_path / "fonts" / "3" / "13.png").shape == (3, 32, 32)
    assert json.loads((tmp_path / "fonts" / "render.json").read_text())["fonts"][0] == "Pillow's own"
    mlcli("render", "digits", "-n", 3, "--style", "b", "-o", tmp_path / "pale")
    assert torch.equal(image_io.read(tmp_path / "pale" / "2" / "2.png")[0], digits.digit(2, 0, 28, (), "b")[0])


def test_organs_have_masks_under_equal_names(tmp_path):
    for style in "ab":
        mlcli("render", "organs", "-n", 3, "--style", style, "--size", 40, "-o", tmp_path / style)
    mlcli("render", "organs", "-n", 3, "--size", 40, "-o", tmp_path / "default")
    a, b, default = (files(tmp_path / name) for name in ("a", "b", "default"))
    assert sorted(a) == [f"{kind}/{number}.png" for kind in ("images", "masks") for number in range(3)]
    assert a == default and all((a[name] == b[name]) == name.startswith("masks") for name in a)
    image, mask = phantoms.phantom(2, 0, 40, "b")
    assert torch.equal(image_io.read_labels(tmp_path / "b" / "masks" / "2.png")[0], mask)
    assert torch.equal(image_io.read(tmp_path / "b" / "images" / "2.png")[0], image)
    shown = Image.open(tmp_path / "b" / "masks" / "2.png").convert("RGB")
    assert {color for _, color in shown.getcolors()} == {(0, 0, 0), (86, 180, 233), (0, 158, 115), (213, 94, 0)}
    document = json.loads((tmp_path / "b" / "render.json").read_text())
    assert document["options"]["style"] == "b" and document["classes"] == [
        "background",
        "right lung",
        "left lung",
        "heart",
    ]


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["digits", "--style", "c"], "--style"),
        (["organs", "--fonts"], "digits can be set"),
        (["digits", "--size", "11"], "at least 12"),
        (["organs", "--size", "31"], "at least 32"),
        (["letters"], "letters"),
        (["digits", "-n", "0"], "-n"),
        (["digits", "-o", "full"], "holds something already"),
    ],
)
def test_errors(tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    result = mlcli("render", "-o", "out", *arguments, status=2)
    assert text in result.stderr and not (tmp_path / "out").exists()
    assert sorted(os.listdir(tmp_path / "full")) == ["mine.txt"]


def test_what_is_drawn_again_does_not_mix_with_what_was_there(tmp_path):
    arguments = ("render", "digits", "--seed", -1, "-q", "-o", tmp_path / "out", "--overwrite", "-n")
    mlcli(*arguments, 12)
    first = files(tmp_path / "out")
    mlcli(*arguments, 12)
    assert files(tmp_path / "out") == first and len(first) == 12
    assert "holds 12 other images" in mlcli(*arguments, 3, status=2).stderr and files(tmp_path / "out") == first
    mlcli(*arguments, 30)
    assert len(files(tmp_path / "out")) == 30


def test_an_interrupt_leaves_whole_images(tmp_path, monkeypatch):
    draw = digits.digit

    def interrupted(number, *arguments):
        if number == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(number, *arguments)

    monkeypatch.setattr(digits, "digit", interrupted)
    result = mlcli("render", "digits", "-n", 400, "--workers", 1, "-o", tmp_path / "out", status=130)
    done = int(re.search(r"interrupted after (\d+) of 400 images", result.stderr).group(1))
    assert not (tmp_path / "out" / RECORD).exists()
    left = list((tmp_path / "out").rglob("*.png"))
    assert 8 < len(left) == done < 200 and all(image_io.read(path).shape == (3, 28, 28) for path in left)


def test_a_pendulum_is_in_folders_of_its_angle(tmp_path):
    for style in "ab":
        mlcli("render", "pendulum", "-n", 144, "--style", style, "-o", tmp_path / style)
    folders = sorted(path.name for path in (tmp_path / "a").iterdir() if path.is_dir())
    assert folders == [f"{angle:03d}" for angle in range(0, 360, 5)]
    images = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.png"))
    assert len(images) == 144 and all((tmp_path / "b" / path).exists() for path in images)
    with Image.open(tmp_path / "a" / images[0]) as image:
        assert image.size == (32, 32) and image.mode == "L"
    assert json.loads((tmp_path / "a/render.json").read_text())["angles"] == list(range(0, 360, 5))
    assert (
        "pendulum take at least 16 pixels"
        in mlcli("render", "pendulum", "--size", 8, "-o", tmp_path / "small", status=2).stderr
    )
    mlcli("render", "pendulum", "-n", 72, "-o", tmp_path / "a", "--overwrite", status=2)  # others would stay

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.methods.visualization import top_patches as method
from mlcli.models import registry
from mlcli.runtime import device as runtime
from mlcli.training import run_folder
from tests import odd_images
from tests.cli import mlcli
from tests.tiny import COLORS

BLUE = sorted(COLORS).index("blue")  # the unit of conv1 that sees blue in the middle of its window


@pytest.fixture
def images(tmp_path):
    """Black images of 32 x 48 with a square of 8 pixels, the rarer the bluer, where the unit is strongest."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        pixels = np.zeros((32, 48, 3), np.uint8)
        pixels[8:16, 24:32, 2] = 100 + 10 * number
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def read(folder):
    return json.loads((folder / "patches.json").read_text())


def unit(document, number, layer=0):
    return next(unit for unit in document["layers"][layer]["units"] if unit["unit"] == number)


def test_the_patches_of_a_unit_that_sees_blue(images, colors, tmp_path):
    out = tmp_path / "out"
    arguments = ("patches", images, "--model", colors, "--layer", "conv1", "--units", f"{BLUE},5", "--top", 3)
    result = mlcli(*arguments, "--precision", "fp32", "-o", out, "--size", 32)
    assert result.stdout == "" and "2 units of conv1 over 12 images" in result.stderr
    assert sorted(os.listdir(out)) == ["conv1.jpg", "patches.json"]
    document = read(out)
    assert document["command"] == "patches" and document["images"] == 12
    assert document["model_hash"] == registry.load(str(colors)).hash
    (layer,) = document["layers"]
    assert layer["layer"] == "conv1" and layer["receptive_field"] == 7 and layer["files"] == ["conv1.jpg"]
    assert [entry["unit"] for entry in layer["units"]] == [BLUE, 5]
    groups = unit(document, BLUE)
    strong = groups["strongly_positive"]
    assert [os.path.basename(p["file"]) for p in strong] == ["11.png", "10.png", "09.png"]
    # The square of 32 from column 8 on, halved: blue are rows 4 to 7, columns 8 to 11 of 16, the outer ones less so
    assert [p["position"] for p in strong] == [[5, 9]] * 3
    left, top = 8 + 2 * (9 - 3), 2 * (5 - 3)
    assert strong[0]["box"] == [left, top, left + 14, top + 14] and strong[0]["size"] == [32, 48]
    blue = (210 / 255 - 0.5) / 0.25
    assert strong[0]["value"] == pytest.approx(blue / (1 + 1e-5) ** 0.5, rel=0.02)
    assert all(p["value"] == pytest.approx(-2, rel=0.02) for p in groups["strongly_negative"])
    assert [os.path.basename(p["file"]) for p in groups["strongly_negative"]] == ["00.png", "01.png", "02.png"]
    shown = np.asarray(Image.open(out / "conv1.jpg")).astype(int)
    found = np.argwhere(shown[..., 2] - shown[..., 0] > 150)
    (y, x), (bottom, right) = found.min(0), found.max(0)
    assert 12 <= bottom - y <= 24 and right - x > 2 * 36  # in each of the three tiles of 32 pixels side by side
    first = [(out / name).read_bytes() for name in sorted(os.listdir(out))]
    mlcli(*arguments, "--precision", "fp32", "-o", out, "--size", 32, "--overwrite", "-q", "--batch-size", 64)
    assert [(out / name).read_bytes() for name in sorted(os.listdir(out))] == first


def test_ranks_are_those_of_fp32_unless_the_user_says_otherwise(images, colors, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "native_bf16", lambda device: True)
    arguments = ("patches", images, "--model", colors, "--layer", "conv1", "--units", BLUE, "-q", "-o")
    for given, used in (((), "fp32"), (("--precision", "auto"), "bf16")):
        mlcli(*arguments, tmp_path / used, *given)
        assert read(tmp_path / used)["options"]["precision"] == used


def test_boxes_are_those_of_the_upright_image(images, colors, tmp_path):
    upright = Image.open(images / "11.png")
    exif = Image.Exif()
    exif[274] = 6  # to be rotated clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "rotated.png", exif=exif)
    options = ("--model", colors, "--layer", "conv1", "--units", BLUE, "--top", 1, "-q")
    mlcli("patches", images / "11.png", *options, "-o", tmp_path / "upright")
    mlcli("patches", tmp_path / "rotated.png", *options, "-o", tmp_path / "rotated")
    (one,), (other,) = (unit(read(tmp_path / n), BLUE)["strongly_positive"] for n in ("upright", "rotated"))
    assert one["box"] == other["box"] and one["value"] == other["value"]


def test_several_layers_and_pages(images, colors, tmp_path):
    out = tmp_path / "out"
    layers = ("--layer", "conv1", "--layer", "classifier", "--layer", "conv2:3")
    mlcli("patches", images, "--model", colors, *layers, "--top", 2, "--size", 16, "-o", out, "-q")
    document = read(out)
    assert sorted(os.listdir(out)) == [
        "classifier.jpg", "conv1_00-31.jpg", "conv1_32-63.jpg", "conv2.jpg", "patches.json"
    ]  # fmt: skip
    first, logits, second = document["layers"]
    assert [entry["unit"] for entry in first["units"]] == list(range(64))
    assert first["files"] == ["conv1_00-31.jpg", "conv1_32-63.jpg"]
    assert [entry["unit"] for entry in logits["units"]] == [0, 1, 2] and logits["receptive_field"] is None
    assert unit(document, BLUE, 1)["strongly_positive"][0]["box"] == [8, 0, 40, 32]  # all that the network sees
    assert [entry["unit"] for entry in second["units"]] == [3]


def test_a_folder_with_odd_and_bad_images(tmp_path, colors):
    _, bad = odd_images.make(tmp_path / "odd")
    result = mlcli(
        "patches", tmp_path / "odd", "--model", colors, "--units", "0-2", "-o", tmp_path / "out", "-q", status=1
    )
    assert len(result.stderr.splitlines()) == len(bad)
    found = read(tmp_path / "out")
    assert {os.path.basename(p["file"]) for p in unit(found, 0)["strongly_positive"]}.isdisjoint(bad)
    assert (tmp_path / "out" / "conv3.jpg").exists()
    for name in list(bad)[:3]:
        arguments = ("patches", tmp_path / "odd" / name, "--model", colors, "-o", tmp_path / "none", "-q")
        assert "no readable image" in mlcli(*arguments, status=1).stderr
    assert not (tmp_path / "none").exists()


def test_files_that_go_meanwhile_leave_a_gap(images, colors, tmp_path, monkeypatch):
    search = method.search

    def search_and_lose(*arguments, **options):
        found = search(*arguments, **options)
        (images / "11.png").unlink()
        return found

    monkeypatch.setattr(method, "search", search_and_lose)
    options = ("--model", colors, "--layer", "conv1", "--units", f"{BLUE},7", "--top", 2, "-q")
    result = mlcli("patches", images, *options, "-o", tmp_path / "out", status=1)
    assert len(result.stderr.splitlines()) == 1 and "11.png: no such file" in result.stderr
    strong = unit(read(tmp_path / "out"), BLUE)["strongly_positive"]
    assert [os.path.basename(p["file"]) for p in strong] == ["11.png", "10.png"]
    shown = np.asarray(Image.open(tmp_path / "out" / "conv1.jpg")).astype(int)
    assert (shown[..., 2] - shown[..., 0] > 150).any()  # the other


def test_projections_stand_below_the_patches(images, colors, tmp_path):
    options = ("--model", colors, "--layer", "conv1", "--units", BLUE, "--top", 3, "--size", 32, "-q")
    for rule in ("deconv", "guided"):
        mlcli("patches", images, *options, "--project", rule, "-o", tmp_path / rule)
        assert read(tmp_path / rule)["options"]["project"] == rule
    mlcli("patches", images, *options, "-o", tmp_path / "plain")
    plain, drawn = (np.asarray(Image.open(tmp_path / n / "conv1.jpg")).astype(int) for n in ("plain", "deconv"))
    assert drawn.shape[0] == plain.shape[0] + 36 and drawn.shape[1] == plain.shape[1]
    below = drawn[-64:-28, 40:140]  # unit BLUE adds blue alone, and each projection shows it on gray
    assert (abs(below - 128).max(2) < 12).mean() > 0.3 and (below[..., 2] - below[..., 0] > 60).any()


def test_by_relevance_to_a_class(images, colors, tmp_path):
    """The classes of the model are those of COLORS; the bluer the image, the more its unit of blue speaks for blue."""
    options = ("--model", colors, "--layer", "conv1", "--units", BLUE, "--top", 3, "--by", "relevance", "--class")
    mlcli("patches", images, *options, "blue", "-o", tmp_path / "out", "-q", "--project", "guided")
    document = read(tmp_path / "out")
    assert document["options"]["by"] == "relevance" and document["options"]["target"] == "blue"
    plain = tmp_path / "plain"
    mlcli("patches", images, *options[:-3], "-o", plain, "-q")
    values = [[patch["value"] for patch in unit(read(f), BLUE)["strongly_positive"]] for f in (tmp_path / "out", plain)]
    assert values[0] != values[1] and values[0] == sorted(values[0], reverse=True)


def test_a_network_of_gray_images(images, tmp_path):
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["a", "b"], 16, channels=1)
    run_folder.save_tensors(tmp_path / "run" / "model.safetensors", model.network.state_dict(), model.describe())
    mlcli("patches", images, "--model", tmp_path / "run", "--units", "0-1", "-o", tmp_path / "out", "-q")
    shown = np.asarray(Image.open(tmp_path / "out" / "conv3.jpg")).astype(int)
    assert (shown.max(2) - shown.min(2)).max() < 8


@pytest.mark.parametrize(
    "arguments, status, text",
    [
        (["--layer", "conv9"], 2, "did you mean conv"),
        (["--layer", "conv1", "--units", "64"], 2, "conv1 has the units 0 to 63"),
        (["--layer", "conv1:64"], 2, "conv1 has the units 0 to 63"),
        (["--layer", "conv1:1", "--units", "2"], 2, "names a unit"),
        (["--units", "x"], 2, "give all, or numbers and ranges"),
        (["--size", "8"], 2, "size"),
        (["--top", "0"], 2, "top"),
        (["--by", "relevance"], 2, "go together"),
        (["--class", "blue"], 2, "go together"),
        (["--by", "relevance", "--class", "bleu"], 2, "did you mean blue"),
        (["-o", "images/00.png"], 2, "a file; give the name of a folder"),
        (["-o", "images"], 2, "holds something already"),
        (["-o", "/dev/null/out"], 1, "cannot be written"),
        (["--device", "cuda:9"], 2, "--device"),
        (["--model", "cifarnett"], 2, "did you mean cifarnet"),
    ],
)
def test_errors(images, colors, tmp_path, arguments, status, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = mlcli("patches", "images", "--model", colors, "-o", "out", *arguments, status=status)
    assert text in result.stderr and sorted(tmp_path.rglob("*")) == before


def test_no_images(colors, tmp_path):
    (tmp_path / "empty").mkdir()
    for named in ("empty", "absent"):
        result = mlcli("patches", tmp_path / named, "--model", colors, "-o", tmp_path / "out", status=1)
        assert "no images there" in result.stderr or "no such file" in result.stderr
    assert not (tmp_path / "out").exists()

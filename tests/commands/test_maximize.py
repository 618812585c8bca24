import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.errors import UsageError
from mlcli.methods.visualization import activation_maximization, configs
from mlcli.models import registry
from mlcli.training import run_folder
from tests.cli import mlcli


@pytest.fixture
def quick(colors, tmp_path):
    """Run the command on the classifier of colors, a few steps; the image (H, W, C) and what lies beside it."""

    def run(*arguments, name="out.png", steps=12):
        target = tmp_path / name
        options = ("--model", colors, "--steps", steps, "--lr", 0.2, "-q", "--precision", "fp32")
        mlcli("maximize", *options, *arguments, "-o", target)
        record = json.loads(target.with_name(name + ".json").read_text())
        return np.asarray(Image.open(target)).astype(int), record

    return run


def test_the_image_of_a_class_is_of_that_class(colors, quick, tmp_path):
    objective = "logit:red - logit:green - logit:blue"
    pixels, record = quick(objective, steps=40)
    assert pixels.shape == (256, 256, 3) and record["command"] == "maximize"
    assert (pixels == pixels[::16, ::16].repeat(16, 0).repeat(16, 1)).all() and record["options"]["size"] == [16, 16]
    assert record["options"]["objective"] == objective and record["options"]["steps"] == 40
    assert record["model_hash"] == registry.load(str(colors)).hash
    (answer,) = json.loads(mlcli("classify", tmp_path / "out.png", "--model", colors, "--format", "json").stdout)
    best, (entry,) = answer["predictions"][0], record["images"]
    assert best["label"] == "red" == entry["class"] and entry["objective"] == objective and entry["value"] > 3
    assert best["probability"] >= 0.99 and entry["probability"] == pytest.approx(best["probability"], abs=0.01)
    first = (tmp_path / "out.png").read_bytes()
    quick(objective, "--overwrite", steps=40)
    assert (tmp_path / "out.png").read_bytes() == first


def test_size_and_zoom(quick):
    assert quick("conv2:1", "--size", 24, "--zoom", 1, steps=2)[0].shape == (24, 24, 3)
    large, record = quick("conv2:1", "--size", 100, steps=1, name="100.png")
    assert large.shape == (300, 300, 3) and record["options"]["size"] == [100, 100]
    small, large = (quick("conv2:1", "--zoom", n, steps=2, name=f"zoom{n}.png")[0] for n in (1, 3))
    assert small.shape == (16, 16, 3) and np.array_equal(large, small.repeat(3, 0).repeat(3, 1))


def test_a_class_fills_a_large_image(quick):
    """The network takes the greatest answer of all positions: each quarter, as large as the model, gets a blue spot."""
    pixels, record = quick("logit:blue - logit:red - logit:green", "--size", 32, "--zoom", 1, steps=24)
    assert pixels.shape == (32, 32, 3) and record["images"][0]["class"] == "blue"
    blue = pixels[..., 2] - pixels[..., :2].max(2)
    for top, left in itertools.product((0, 16), repeat=2):
        assert blue[top : top + 16, left : left + 16].max() > 100, (top, left)


def test_a_grid_of_units(quick):
    pixels, record = quick("conv1:0-2")
    assert pixels.shape == (2 * (96 + 15 + 6) + 6, 2 * (96 + 6) + 6, 3)
    assert [entry["objective"] for entry in record["images"]] == ["conv1:0", "conv1:1", "conv1:2"]
    for (row, column), channel in zip(((0, 0), (0, 1), (1, 0)), (2, 1, 0), strict=True):
        top, left = 6 + row * 116, 6 + column * 102
        assert pixels[top : top + 96, left : left + 96].mean((0, 1)).argmax() == channel


def test_an_interpolation_is_a_strip(quick):
    pixels, record = quick("--interpolate", "conv1:2", "conv1:0", "--frames", 3, steps=24)
    assert pixels.shape == (96 + 15 + 12, 3 * 102 + 6, 3)
    frames = [pixels[6:102, left : left + 96].mean((0, 1)) for left in (6, 108, 210)]
    assert frames[0][0] > frames[2][0] and frames[2][2] > frames[0][2]
    assert [entry["objective"] for entry in record["images"]][::2] == ["conv1:2 + 0*conv1:0", "0*conv1:2 + conv1:0"]


def test_a_batch_and_snapshots(quick):
    pixels, record = quick("conv1:2 - 2*diversity(conv3)", "--batch", 4, steps=3)
    assert pixels.shape == (96 + 12, 4 * 102 + 6, 3) and len(record["images"]) == 4
    pixels, record = quick("conv1:2", "--snapshots", "0,8,12", steps=12, name="steps.png")
    assert pixels.shape == (96 + 15 + 12, 3 * 102 + 6, 3) and record["options"]["snapshots"] == [0, 8]
    red = [pixels[6:102, left : left + 96, 0].mean() for left in (6, 108, 210)]
    assert red == sorted(red)


def test_from_a_photograph(quick, tmp_path):
    photo = np.full((40, 60, 3), 128)
    photo[:, 30:] = (200, 60, 60)
    Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "photo.png")
    start = ("--init", tmp_path / "photo.png", "--zoom", 1)
    pixels, record = quick("logit:blue", *start, "--lr", 0.001, steps=1)
    assert pixels.shape == (40, 60, 3) and np.abs(pixels - photo).max() < 12
    assert quick("conv2", *start, "--size", 20, steps=1, name="2.png")[0].shape == (20, 30, 3)


def test_what_is_not_said_is_chosen_for_the_network_and_the_start(colors, tmp_path, monkeypatch):
    chosen = []

    def made(model, objectives, config, *arguments, **options):
        chosen.append(config)
        raise UsageError("enough")

    monkeypatch.setattr(activation_maximization, "maximize", made)
    Image.fromarray(np.full((20, 20, 3), 128, np.uint8)).save(tmp_path / "photo.png")
    for options in ((), ("--init", tmp_path / "photo.png"), ("--steps", 7, "--lr", 0.3, "--octaves", 3)):
        mlcli("maximize", "conv2:1", "--model", colors, "-o", tmp_path / "out.png", *options, status=2)
    assert chosen[:2] == [configs.SMALL_IMAGES, configs.DREAM]
    assert (chosen[2].steps, chosen[2].lr, chosen[2].octaves) == (7, 0.3, 3)
    # Of a network for photographs, by what the layers see: 19, 67 and 147 pixels of 224
    for objective in ("conv2:1", "conv3:1 + conv2:4", "conv4:1", "conv2:1 - conv4:1", "logit:tiger"):
        mlcli("maximize", objective, "-o", tmp_path / "out.png", status=2)
    assert chosen[3:] == [configs.FINE, configs.FINE] + [configs.Maximization()] * 3


def test_a_gray_model_makes_gray_images(tmp_path):
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["a", "b"], 16, channels=1)
    run_folder.save_tensors(tmp_path / "run" / "model.safetensors", model.network.state_dict(), model.describe())
    for text, mode in (("conv2:1", "L"), ("conv2:1-2", "RGB")):
        target = tmp_path / f"{mode}.png"
        mlcli("maximize", text, "--model", tmp_path / "run", "--param", "pixel", "--steps", 2, "-o", target)
        assert Image.open(target).mode == mode


@pytest.mark.parametrize(
    "arguments, text, status",
    [
        ([], "one OBJECTIVE, or --interpolate", 2),
        (["conv2:1", "--interpolate", "conv2:1", "conv2:2"], "one OBJECTIVE, or --interpolate", 2),
        (["--interpolate", "conv2:1-2", "conv2:2"], "name one unit on each side", 2),
        (["--interpolate", "conv2:1", "conv2:2", "--batch", "2"], "--batch", 2),
        (["conv9:1"], "did you mean conv", 2),
        (["conv5:all", "--batch", "9"], "one command makes at most 512; name a range of units, such as conv5:0-15", 2),
        (["logit:rad"], "did you mean red", 2),
        (["conv2:1 +"], "at its end", 2),
        (["conv5:1", "--size", "4"], "--size 4: does not suit", 2),
        (["conv2:1", "--snapshots", "3,x"], "--snapshots 3,x: numbers of steps", 2),
        (["conv2:1", "--snapshots", "99", "--steps", "4"], "from 0 to 4", 2),
        (["conv2:0", "--model", "sobel"], "knows no classes", 2),
        (["conv2:1", "--init", "nothing.png"], "nothing.png: no such file", 1),
        (["conv2:1", "-o", "image.gif"], "no format has this ending", 2),
        (["conv2:1", "--lr", "1e9"], "--lr", 2),
        (["conv2:1", "--size", "99999"], "more than the limit", 2),
        (["conv2:1", "--zoom", "9999"], "more than the limit", 2),
        (["conv2:0-9", "-o", "out.webp", "--zoom", "500"], "WEBP holds at most", 2),
        (["conv2:1", "-o", "/dev/null/out.png"], "cannot be written", 1),
    ],
)
def test_errors(colors, tmp_path, monkeypatch, arguments, text, status):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(activation_maximization, "ascend", None)  # no work is done in vain
    result = mlcli("maximize", "--model", colors, "-o", "out.png", *arguments, status=status)
    assert text in result.stderr and not list(tmp_path.glob("*.png*"))


def test_an_output_is_not_replaced(colors, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    result = mlcli("maximize", "conv2:1", "--model", "no model", "-o", tmp_path / "mine.png", status=2)
    assert "--overwrite" in result.stderr and (tmp_path / "mine.png").read_bytes() == b"mine"

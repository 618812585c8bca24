"""`mlcli.maximize` as a notebook calls it, against what the command writes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import mlcli
from mlcli.errors import UsageError
from tests.cli import mlcli as command_line

QUICK = {"model": "cifarnet", "steps": 2, "precision": "fp32"}
AS_OPTIONS = ("--model", "cifarnet", "--steps", 2, "--precision", "fp32")


def test_the_grid_of_a_range_of_units_is_what_the_command_writes(tmp_path):
    done = []
    result = mlcli.maximize("conv1:3,5", **QUICK, snapshots=[1], on_progress=done.append)
    assert result.output is None and [step.done for step in done] == [1, 2] and done[0].total == 2
    command_line("maximize", "conv1:3,5", *AS_OPTIONS, "--snapshots", "1", "-o", tmp_path / "units.png")
    assert Image.open(tmp_path / "units.png").tobytes() == result.image.tobytes()
    assert json.loads((tmp_path / "units.png.json").read_text()) == result.as_json()
    assert [image.objective for image in result.images] == ["conv1:3", "conv1:5"]
    assert [list(image.snapshots) for image in result.images] == [[1], [1]]


def test_a_single_image_is_enlarged_and_kept_as_it_is():
    result = mlcli.maximize("logit:cat", **QUICK)
    (one,) = result.images
    assert result.image.size == (256, 256) and one.image.size == (32, 32)
    assert np.array_equal(np.asarray(result.image)[::8, ::8], np.asarray(one.image))
    (label, _, _, probability), *_ = mlcli.classify(one.image, model="cifarnet").predictions[0].classes
    assert (label, probability) == (one.predicted, pytest.approx(one.probability, abs=1e-5))


@pytest.mark.parametrize("kind", ["path", "array", "tensor"])
def test_the_initial_image_may_be_a_path_or_in_memory(kind, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    given = {"path": tmp_path / "photo.png", "array": pixels, "tensor": torch.from_numpy(pixels).permute(2, 0, 1)}
    result = mlcli.maximize("conv2", init=given[kind], lr=0, model="cifarnet", steps=1)
    difference = np.asarray(result.images[0].image).astype(int) - pixels
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "one OBJECTIVE"),
        ({"objective": "conv9:1"}, "did you mean conv"),
        ({"objective": "conv1:3", "jitter": 2}, "jitter 2: take a number from 0 to 1"),
        ({"objective": "conv1:3", "snapshots": [1, 9]}, "--snapshots 1,9: numbers of steps from 0 to 2"),
        ({"interpolate": ("conv1:3", "conv1:0-5")}, "name one unit on each side"),
        ({"objective": "conv1:3", "zoom": 1000}, "more than the limit"),
    ],
)
def test_what_cannot_be_maximized_is_said(given, message):
    with pytest.raises(UsageError, match=message):
        mlcli.maximize(**QUICK | given)


def test_maco_keeps_the_magnitudes_of_the_images_that_are_named(tmp_path):
    """Those of stripes, in which alone an image can then differ from its mean color."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::4], stripes[:, 1::4] = 255, 255
    (tmp_path / "stripes").mkdir()
    Image.fromarray(stripes).save(tmp_path / "stripes" / "one.png")
    (tmp_path / "stripes" / "bad.png").write_bytes(b"no image")
    given = {"param": "maco", "spectrum": tmp_path / "stripes"} | QUICK
    result = mlcli.maximize("conv1:3", **given)
    made = np.asarray(result.images[0].image).astype(float)
    assert result.failures == 1 and result.as_json()["options"]["param"] == "maco"
    assert np.ptp(made, axis=0).max() < 4 and np.ptp(made, axis=1).max() > 60  # equal rows, columns that differ
    natural = np.asarray(mlcli.maximize("conv1:3", param="maco", **QUICK).images[0].image).astype(float)
    assert np.ptp(natural, axis=0).max() > 60


def test_a_command_with_a_bad_image_of_the_spectrum_fails_in_the_end(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    words = ("maximize", "conv1:3", *AS_OPTIONS, "--param", "maco", "--spectrum", tmp_path, "-o", tmp_path / "a.jpg")
    assert "bad.png" in command_line(*words, status=1).stderr and (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"spectrum": "photos"}, "--spectrum: is kept by --param maco alone"),
        ({"param": "maco", "jitter": 0.1}, "--jitter: --param maco has random crops in place of it"),
        ({"param": "maco", "objective": "conv1:3@35,35"}, "columns 0 to 31"),
    ],
)
def test_what_does_not_go_with_maco_is_said(given, message):
    with pytest.raises(UsageError, match=message):
        mlcli.maximize(**{"objective": "conv1:3", "size": 40} | QUICK | given)


def test_maco_makes_no_interpolation():
    with pytest.raises(UsageError, match="makes no frames of an interpolation"):
        mlcli.maximize(interpolate=("conv1:3", "conv1:4"), param="maco", **QUICK)

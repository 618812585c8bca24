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

import os
import signal

import pytest
from PIL import Image

import mlcli
from mlcli.api.equivariance import PartlyMeasured
from mlcli.errors import UsageError
from mlcli.io.files import json_text
from mlcli.methods.visualization.equivariance import Measure
from tests import cli
from tests.tiny import class_folders


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", per_class=1, size=32)


def test_the_errors_are_those_of_the_command(photos, tmp_path):
    steps = []
    result = mlcli.equivariance(
        photos,
        output=tmp_path / "python",
        model="sobel",
        transform="flip",
        layer="conv2",
        on_progress=steps.append,
    )
    (layer,) = result.layers
    assert result.amounts == ["none", "left-right", "upside down", "both"] and result.count == 3
    assert max(layer.equivariance.mean()) < 1e-5 < min(layer.invariance.mean()[1:])
    assert [step.done for step in steps] == [1, 2, 3]

    words = ("--model", "sobel", "--transform", "flip", "--layer", "conv2", "--format", "json")
    printed = cli.mlcli("equivariance", photos, *words, "-o", tmp_path / "command").stdout
    assert printed == (tmp_path / "python" / "equivariance.json").read_text() == json_text(result.as_json())
    for name in ("curves.png", "example.png"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()


def test_images_in_memory(tmp_path):
    image = Image.effect_noise((32, 32), 80).convert("RGB")
    result = mlcli.equivariance(image, output=tmp_path / "out", model="sobel", layer="conv1", range=2, points=2)
    assert result.amounts == [0, 2] and result.as_json()["example"] == "image 0"


def test_after_a_signal_the_images_so_far_are_written(photos, tmp_path, monkeypatch):
    add = Measure.add

    def stopped(self, images):
        add(self, images)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Measure, "add", stopped)
    with pytest.raises(PartlyMeasured, match="after 1 of 3 images") as interrupted:
        mlcli.equivariance(photos, output=tmp_path / "out", model="sobel", points=2, batch_size=1)
    assert interrupted.value.result.count == 1 and (tmp_path / "out" / "curves.png").is_file()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"transform": "translate"}, "transform translate: take one of shift, rotate, flip, scale"),
        ({"points": 1}, "points 1: take a number from 2"),
        ({"layer": "conv9"}, "did you mean conv"),
        ({"transform": "flip", "range": 2}, "a flip has none"),
    ],
)
def test_errors_are_raised(photos, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        mlcli.equivariance(photos, output=tmp_path / "out", model="sobel", **options)
    assert not (tmp_path / "out").exists()

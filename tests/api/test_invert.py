"""`mlcli.maximize` with `invert`: a sheet, the PSNR of each layer, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

import mlcli
from mlcli.errors import UsageError
from tests.cli import mlcli as command_line

QUICK = {"model": "cifarnet", "steps": 2, "precision": "fp32"}


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(60, 190, (5, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((60, 48), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_sheet_of_the_layers_is_that_of_the_command(photo, tmp_path):
    done = []
    result = mlcli.maximize(invert=photo, layer="conv1,conv3", on_progress=done.append, **QUICK)
    assert [each.layer for each in result.layers] == ["conv1", "conv3"]
    assert [step.done for step in done] == [1, 2, 3, 4] and done[0].title == "invert"
    shown = np.asarray(Image.open(photo).convert("RGB").crop((6, 0, 54, 48)).resize((32, 32), Image.Resampling.BOX))
    for each in result.layers:
        assert each.image.size == (32, 32) and 3 < each.psnr < 25
        error = (np.asarray(each.image).astype(float) - shown) ** 2
        assert each.psnr == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=0.2)
    words = ("--invert", photo, "--layer", "conv1", "--layer", "conv3", "--model", "cifarnet", "--steps", 2)
    told = command_line("maximize", *words, "--precision", "fp32", "-o", tmp_path / "left.png")
    assert Image.open(tmp_path / "left.png").tobytes() == result.image.tobytes()
    record = json.loads((tmp_path / "left.png.json").read_text())
    assert record["layers"] == json.loads(json.dumps(result.as_json()["layers"]))
    assert [each["psnr"] for each in record["layers"]] == [each.psnr for each in result.layers]
    assert f"conv1 {result.layers[0].psnr:.1f} dB, conv3 {result.layers[1].psnr:.1f} dB" in told.stderr


def test_all_stages_in_one_row_by_default(photo):
    result = mlcli.maximize(invert=np.asarray(Image.open(photo)), **QUICK | {"steps": 1})
    assert [each.layer for each in result.layers] == [f"conv{n}" for n in range(1, 6)]
    width, height = result.image.size
    assert width > 5 * height / 2 and height >= 224


def test_another_size(photo):
    (one,) = mlcli.maximize(invert=photo, layer="conv2", size=20, **QUICK).layers
    assert one.image.size == (20, 20)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"objective": "conv1:3"}, "one OBJECTIVE, or --interpolate with two, or --invert with an image"),
        ({"layer": "conv9"}, "did you mean conv"),
        ({"layer": "conv1:3"}, "names a unit"),
        ({"param": "maco"}, "--param maco: has no effect with --invert"),
        ({"rotation": 3.0}, "--rotation: has no effect with --invert"),
        ({"batch": 2}, "--batch: has no effect with --invert"),
        ({"init": "photo.png"}, "--init: has no effect with --invert"),
        ({"zoom": 10_000}, "more than the limit"),
    ],
)
def test_what_does_not_go_with_it_is_said(photo, given, message):
    with pytest.raises(UsageError, match=message):
        mlcli.maximize(**{"invert": photo} | QUICK | given)


def test_layers_are_named_for_an_inversion_alone():
    with pytest.raises(UsageError, match="--layer: names what --invert inverts"):
        mlcli.maximize("conv1:3", layer="conv1", **QUICK)

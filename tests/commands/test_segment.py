"""`mlcli segment` over real files, by a segmenter of bright shapes that is trained here."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.imaging import image_io
from mlcli.methods.evaluation import segmentation
from tests import shapes
from tests.cli import mlcli


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """source/, target/, test/ with images/ and masks/, and run/, a run of SeUDA that has hardly adapted."""
    root = tmp_path_factory.mktemp("segment")
    for part, count, target in (("source", 40, False), ("target", 20, True), ("test", 12, True)):
        shapes.write_masks(root / part, count, ord(part[0]), target)
    words = [
        "--method",
        "seuda",
        "--task",
        "segment",
        "--source-steps",
        80,
        "--steps",
        2,
        "--batch-size",
        12,
        "--source-batch-size",
        12,
    ]
    words += ["--filters", 4, "--candidates", 1, "--precision", "fp32", "--test", root / "test", "-q"]
    mlcli("adapt", root / "source", root / "target", "-o", root / "run", *words)
    return root


def segment(*words, status=0):
    return mlcli("segment", *words, "--precision", "fp32", status=status)


def answer(*words, status=0):
    return json.loads(segment(*words, "--format", "json", status=status).stdout)


def test_the_figures_are_those_of_the_table_of_the_run(folder, tmp_path):
    table = json.loads((folder / "run" / "results.json").read_text())
    for run, row in (("run", "adapted"), ("run/seed-0/source", "source_only")):
        test, out = folder / "test", tmp_path / row
        result = answer(folder / run, test / "images", "-o", out, "--evaluate", test / "masks")
        assert result["dice"] == pytest.approx(table[row]["mean"]) and result["count"] == 12
        assert result["interval"] == pytest.approx(table[row]["interval"])
        assert result["per_class"]["class 1"]["dice"] == pytest.approx(table["per_class"][row]["class 1"])
    whole = segment(folder / "run/seed-0/source", folder / "source/images", "-o", tmp_path / "own", "--evaluate",
                    folder / "source/masks").stdout  # fmt: skip
    assert whole.startswith("Dice 9") and "class 1" in whole, whole


def test_masks_have_the_names_and_sizes_of_images_and_a_palette(folder, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    (photos / "inside").mkdir(parents=True)
    with Image.open(folder / "source/images/00.png") as image:
        large = image.resize((53, 40), Image.Resampling.NEAREST)
        large.convert("RGB").save(photos / "inside" / "color.jpg", quality=98)
        deep = np.asarray(large).astype(np.uint16) * 257
        Image.fromarray(deep).save(photos / "deep.tif")
    (photos / "broken.png").write_bytes(b"no image")
    said = segment(folder / "run/seed-0/source", photos, "-o", out, status=1).stderr
    assert "broken.png" in said and "2 segmented" in said
    true = image_io.read_labels(folder / "source/masks/00.png")
    true = torch.nn.functional.interpolate(true[None], (40, 53), mode="nearest-exact")[0, 0]
    for name in ("inside/color.png", "deep.png"):
        mask = image_io.read_labels(out / name)[0]
        assert mask.shape == (40, 53)
        similarity = segmentation.evaluate(("background", "shape"), [(mask, true)])["dice"]
        assert similarity > 0.75, (name, similarity)
        with Image.open(out / name) as shown:
            assert {color for _, color in shown.convert("RGB").getcolors()} == {(0, 0, 0), (86, 180, 233)}


def test_nothing_is_done_twice_and_what_was_broken_off_goes_on(folder, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(folder / "test/images", images)
    segment(folder / "run", images, "-o", out)
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.iterdir()}
    assert "0 segmented, 12 up to date" in segment(folder / "run", images, "-o", out).stderr
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in out.iterdir()} == before
    (out / "03.png").unlink()
    os.utime(images / "04.png")
    assert "2 segmented, 10 up to date" in segment(folder / "run", images, "-o", out).stderr
    assert (out / "03.png").read_bytes() == before[out / "03.png"][1]
    record = json.loads((out / "segment.json").read_text())
    assert record["run"] == str(folder / "run" / "model.safetensors") and len(record["sha256"]) == 64


def test_masks_of_another_model_are_made_from_scratch_and_those_of_broken_images_not_evaluated(folder, tmp_path):
    images, out, told = tmp_path / "images", tmp_path / "out", ["--evaluate", folder / "test/masks"]
    shutil.copytree(folder / "test/images", images)
    segment(folder / "run", images, "-o", out)
    said = answer(folder / "run/seed-0/source", images, "-o", out, *told)
    assert said["dice"] == answer(folder / "run/seed-0/source", images, "-o", tmp_path / "alone", *told)["dice"]
    assert "0 segmented, 12 up to date" in segment(folder / "run/seed-0/source", images, "-o", out).stderr
    (out / "segment.json").write_text("{")
    assert "--overwrite makes all from scratch" in segment(folder / "run", images, "-o", out, status=2).stderr
    assert "12 segmented" in segment(folder / "run/seed-0/source", images, "-o", out, "--overwrite").stderr
    (images / "00.png").write_bytes(b"")
    said = answer(folder / "run/seed-0/source", images, "-o", out, *told, status=1)
    assert said["count"] == 11


def test_masks_that_cannot_be_compared_are_named_and_the_rest_is(folder, tmp_path):
    masks = tmp_path / "masks"
    shutil.copytree(folder / "test/masks", masks)
    (masks / "00.png").unlink()
    Image.fromarray(np.full((16, 16), 5, np.uint8)).save(masks / "01.png")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(masks / "02.png")
    (masks / "03.png").write_bytes(b"no image")
    words = [folder / "run", folder / "test/images", "-o", tmp_path / "out", "--evaluate", masks]
    result = segment(*words, "--format", "csv", status=1)
    for message in ("00.png: no mask", "holds class 5", "9 x 8 pixels, its image 16 x 16", "03.png"):
        assert message in result.stderr, result.stderr
    header, row = result.stdout.splitlines()
    assert header == "class,dice,count" and row.startswith("class 1,") and row.endswith(",8")


def test_dice_by_hand():
    predicted, true = torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2, 4, dtype=torch.uint8)
    predicted[0, 1:], true[0, :3] = 1, 1
    empty = torch.zeros(2, 4, dtype=torch.uint8)
    result = segmentation.evaluate(("background", "a", "b"), [(predicted, true), (empty, empty)])
    assert result["per_class"] == {"a": {"dice": pytest.approx(4 / 6), "count": 1}, "b": {"dice": None, "count": 0}}
    assert result["dice"] == pytest.approx((4 / 6 + 1) / 2) and result["count"] == 2


@pytest.mark.parametrize(
    "change, message, status",
    [
        ({"run": "absent"}, "absent: no such run; name the folder of a run of mlcli adapt", 1),
        ({"run": "classifier"}, "holds a classifier, not a segmenter", 1),
        ({"images": "absent"}, "absent", 1),
        ({"masks": "absent"}, "--evaluate absent: no such folder", 2),
        ({"output": "full"}, "holds something already", 2),
    ],
)
def test_mistakes_are_said(change, message, status, folder, colors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classifier").symlink_to(colors)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other.txt").write_text("mine")
    given = {"run": folder / "run", "images": folder / "test/images", "masks": folder / "test/masks", "output": "out"}
    given |= change
    words = [given["run"], given["images"], "-o", given["output"], "--evaluate", given["masks"]]
    assert message in segment(*words, status=status).stderr and not list(tmp_path.rglob("out/*.png"))
    unasked = segment(given["run"], given["images"], "-o", given["output"], "--format", "json", status=2)
    assert "--format: is of the report" in unasked.stderr

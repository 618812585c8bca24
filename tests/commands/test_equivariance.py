import csv
import io
import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.methods.visualization.equivariance import Measure
from mlcli.models import registry
from mlcli.runtime.random_streams import generator
from tests.cli import mlcli


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        noise = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
        noise.resize((48, 36), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def read(folder):
    return json.loads((folder / "equivariance.json").read_text())


def test_curves_an_example_and_the_numbers(images, colors, tmp_path):
    out = tmp_path / "out"
    arguments = ("--model", colors, "--padding", "circular", "--range", 4, "--points", 5, "-o", out)
    result = mlcli("equivariance", images, *arguments)
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "equivariance.json", "example.png"]
    assert "of 3 images" in result.stderr
    document = read(out)
    assert document["command"] == "equivariance" and document["images"] == 3
    assert document["model_hash"] == registry.load(str(colors)).hash
    assert [entry["layer"] for entry in document["layers"]] == ["conv1", "conv2", "conv3", "conv4", "conv5", "logits"]
    first, logits = document["layers"][0], document["layers"][-1]
    assert [point["amount"] for point in first["amounts"]] == [0, 1, 2, 3, 4]
    assert all(point["equivariance"] < 1e-5 and point["exact"] for point in first["amounts"])
    assert all(point["equivariance"] is None for point in logits["amounts"]) and first["unrelated"] > 0
    assert document["example"] == str(images / "0.png")
    assert logits["stride"] is None and first["receptive_field"] == 7
    line = next(line.split() for line in result.stdout.splitlines() if line.startswith(" conv2"))
    assert line[1] == "2" and float(line[-2]) < 1e-5
    curves = np.asarray(Image.open(out / "curves.png")).astype(int)
    assert (curves.max(2) - curves.min(2) > 60).sum() > 500  # colored lines
    assert Image.open(out / "example.png").width > 15 * 64
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    mlcli("equivariance", images, *arguments, "--overwrite", "-q")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    mlcli("equivariance", images, *arguments, "--overwrite", "--batch-size", 1)
    again = [[p["invariance"] for p in e["amounts"]] for e in read(out)["layers"]]
    assert again == [[pytest.approx(p["invariance"], abs=1e-4) for p in e["amounts"]] for e in document["layers"]]


def test_interrupted_what_was_seen_is_kept(images, colors, tmp_path, monkeypatch):
    add = Measure.add

    def stopped(self, images):
        add(self, images)
        os.kill(os.getpid(), signal.SIGTERM)

    arguments = ("--model", colors, "--points", 3, "--batch-size", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Measure, "add", stopped)
        said = mlcli("equivariance", images, *arguments, "-o", tmp_path / "out", status=143).stderr
    assert "interrupted after 2 of 3 images" in said
    document = read(tmp_path / "out")
    seen = tmp_path / "seen"
    seen.mkdir()
    order = torch.randperm(3, generator=generator(0)).tolist()[:2]
    for number in order:
        (seen / f"{number}.png").symlink_to(images / f"{number}.png")
    assert document["images"] == 2 and document["example"] == str(images / f"{min(order)}.png")
    mlcli("equivariance", seen, *arguments, "-o", tmp_path / "alone")
    for ours, theirs in zip(document["layers"], read(tmp_path / "alone")["layers"], strict=True):
        for one, other in zip(ours["amounts"], theirs["amounts"], strict=True):
            assert one["invariance"] == pytest.approx(other["invariance"], abs=1e-5)


@pytest.mark.parametrize("transform", ["flip", "scale", "rotate"])
def test_the_built_in_edge_detector(images, tmp_path, transform):
    arguments = ("--model", "sobel", "--transform", transform, "--points", 3, "--layer", "conv2", "--format")
    result = mlcli("equivariance", images, *arguments, "json", "-o", tmp_path / "out")
    (layer,) = json.loads(result.stdout)["layers"]
    exact = [point["equivariance"] for point in layer["amounts"] if point["exact"]]
    assert len(exact) >= 1 and max(exact) < 1e-5 and read(tmp_path / "out") == json.loads(result.stdout)
    rows = list(
        csv.DictReader(io.StringIO(mlcli("equivariance", images, *arguments, "csv", "-o", tmp_path / "b").stdout))
    )
    assert [row["amount"] for row in rows] == [str(point["amount"]) for point in layer["amounts"]]


def test_a_bad_image_is_named_and_the_rest_goes_on(images, colors, tmp_path):
    (images / "1.png").write_bytes(b"no image")
    arguments = ("--model", colors, "--layer", "conv1", "--points", 2, "-q", "-o")
    result = mlcli("equivariance", images, *arguments, tmp_path / "out", status=1)
    assert "1.png" in result.stderr and read(tmp_path / "out")["images"] == 2
    (images / "0.png").unlink(), (images / "2.png").unlink()
    result = mlcli("equivariance", images, *arguments, tmp_path / "none", status=1)
    assert "no readable image" in result.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--layer", "conv9"], "did you mean conv"),
        (["--transform", "rotate", "--padding", "circular"], "shifted and flipped"),
        (["--range", "400"], "--range 400"),
        (["--transform", "flip", "--range", "2"], "a flip has none"),
        (["--points", "1"], "points"),
        (["-o", "images"], "holds something already"),
    ],
)
def test_errors(images, colors, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    result = mlcli("equivariance", "images", "--model", colors, "-o", "out", *arguments, status=2)
    assert text in result.stderr and not (tmp_path / "out").exists()

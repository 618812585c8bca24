"""`mlcli.translate` as a notebook uses it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import mlcli
from mlcli.data.pairs import ImageSpec
from mlcli.errors import DataError, UsageError
from mlcli.models import translators
from mlcli.training.run_folder import Run
from tests.cli import mlcli as command_line
from tests.tiny import class_folders


def write_run(folder, source):
    torch.manual_seed(0)
    made = translators.create("unet", source, ImageSpec(), (16, 16), filters=4, norm="instance")
    translators.save(Run(folder), {"AtoB": made}, {"AtoB": made.network})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), ImageSpec())


@pytest.fixture
def photos(tmp_path):
    return class_folders(tmp_path / "photos", per_class=2)


def test_a_folder_is_translated_as_by_the_command(run, photos, tmp_path):
    steps = []
    result = mlcli.translate(run, photos, output=tmp_path / "ours", precision="fp32", on_progress=steps.append)
    command_line("translate", run, photos, "-o", tmp_path / "theirs", "--precision", "fp32")
    assert len(result.files) == 6 and result.images == () and not result.failures
    for file, image in result.files.items():
        inside = file.relative_to(tmp_path / "ours")
        assert image == photos / inside and file.read_bytes() == (tmp_path / "theirs" / inside).read_bytes()
    ours, theirs = (json.loads((tmp_path / who / "translate.json").read_text()) for who in ("ours", "theirs"))
    assert ours == theirs
    assert steps[-1].done == steps[-1].total == 6
    first = result.as_json()["results"][0]
    assert first == {"image": str(photos / "blue/00.png"), "result": str(tmp_path / "ours/blue/00.png")}


def test_images_in_memory_are_translated_as_their_files(run, photos, tmp_path):
    path = photos / "red" / "00.png"
    mlcli.translate(run, path, output=tmp_path / "made.png", precision="fp32")
    wanted = np.asarray(Image.open(tmp_path / "made.png"))
    with Image.open(path) as image:
        array = np.asarray(image)
    for given in (path, Image.fromarray(array), array, array / 255, torch.from_numpy(array.copy()).permute(2, 0, 1)):
        (made,) = mlcli.translate(run, given, precision="fp32").images
        assert np.abs(np.asarray(made).astype(int) - wanted).max() <= 1, type(given)
    assert not list(run.glob("*.png"))


def test_what_cannot_be_read_has_no_result(run, photos, tmp_path):
    (photos / "blue" / "00.png").write_bytes(b"no image")
    result = mlcli.translate(run, [photos / "blue", photos / "nowhere.png"])
    assert [image is None for image in result.images] == [True, False, True] and result.failures == 2
    written = mlcli.translate(run, photos / "blue", output=tmp_path / "made")
    assert list(written.files) == [tmp_path / "made" / "01.png"] and written.failures == 1


def test_a_generator_is_exported(run, tmp_path):
    result = mlcli.translate(run, onnx=tmp_path / "generator.onnx")
    assert result.onnx.stat().st_size > 10_000 and 0 <= result.onnx_difference < 1e-4
    assert result.as_json()["onnx"] == str(tmp_path / "generator.onnx")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({}, UsageError, "give images to translate"),
        ({"images": []}, UsageError, "give images to translate"),
        ({"images": "nowhere", "direction": "AtoC"}, UsageError, "take one of AtoB, BtoA"),
        ({"images": "nowhere", "direction": "BtoA"}, UsageError, "translates AtoB, not BtoA"),
        ({"images": np.zeros((8, 8)), "output": "out"}, UsageError, "has no file name"),
    ],
)
def test_mistakes_are_errors(options, error, message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        mlcli.translate(run, **options)


def test_a_folder_without_images_is_an_error(run, tmp_path):
    with pytest.raises(DataError, match="no images there"):
        mlcli.translate(run, tmp_path)


def test_label_maps_are_read_from_files_alone(tmp_path):
    maps = write_run(tmp_path / "maps", ImageSpec(labels=3))
    Image.fromarray(np.eye(16, dtype=np.uint8)).save(tmp_path / "map.png")
    assert mlcli.translate(maps, tmp_path / "map.png").images[0].size == (16, 16)
    with pytest.raises(UsageError, match="give paths"):
        mlcli.translate(maps, np.eye(16, dtype=np.uint8))

"""`mlcli.segment` as a notebook calls it, against what the command writes and prints."""

import json

import pytest
import torch
from PIL import Image

from mlcli.api.segment import segment
from mlcli.errors import UsageError, WeightsError
from mlcli.imaging.image_io import read_labels
from mlcli.models import registry
from mlcli.models.sources.builtin import SEGMENTER
from mlcli.training import run_folder
from tests import shapes
from tests.cli import mlcli


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """run/, an untrained segmenter; images/ and masks/."""
    root = tmp_path_factory.mktemp("segment")
    torch.manual_seed(0)
    model = registry.create(SEGMENTER, ("background", "shape"), 16, channels=1)
    run_folder.save_tensors(root / "run/model.safetensors", model.network.state_dict(), model.describe())
    return shapes.write_masks(root, 4)


def test_masks_and_figures_are_those_of_the_command(data, tmp_path):
    steps = []
    options = {"evaluate": data / "masks", "precision": "fp32", "batch_size": 3}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    result = segment(data / "run", data / "images", output=ours, on_progress=steps.append, **options)
    words = ["segment", data / "run", data / "images", "-o", theirs, "--evaluate", data / "masks", "--batch-size", 3]
    printed = json.loads(mlcli(*words, "--precision", "fp32", "--format", "json").stdout)
    assert result.as_json() == printed and result.evaluation["count"] == 4 and result.failures == 0
    assert {file.name: file.read_bytes() for file in ours.iterdir()} == {
        file.name: file.read_bytes() for file in theirs.iterdir()
    }
    assert {file.name: image.name for file, image in result.files.items()} == {
        f"0{i}.png": f"0{i}.png" for i in range(4)
    }
    assert steps[-1].done == steps[-1].total == 4
    again = segment(data / "run", str(data / "images"), output=ours, precision="fp32")
    assert again.as_json()["masks"].keys() == {str(data / "images" / f"0{i}.png") for i in range(4)}


def test_images_in_memory_give_masks_in_memory(data, tmp_path):
    file = data / "images" / "00.png"
    segment(data / "run", file, output=tmp_path / "mask.png", precision="fp32")
    written = read_labels(tmp_path / "mask.png")[0]
    for image in (file, Image.open(file), [str(file)]):
        (mask,) = segment(data / "run", image, precision="fp32").masks.values()
        assert mask.shape == (16, 16) and torch.equal(mask, written)
    with pytest.raises(UsageError, match="has no file name"):
        segment(data / "run", Image.open(file), output=tmp_path / "out")


def test_failures_are_counted_and_errors_are_of_mlcli(data, colors, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert segment(data / "run", [tmp_path / "bad.png", data / "images"], precision="fp32").failures == 1
    with pytest.raises(UsageError, match="no output: --evaluate compares a folder"):
        segment(data / "run", data / "images", evaluate=data / "masks")
    with pytest.raises(WeightsError, match="not a segmenter"):
        segment(colors, data / "images", output=tmp_path / "out")

"""Outputs and inputs that cannot be reached: names that are too long, folders that may not be entered or written to."""

import os
from pathlib import Path

import pytest
from PIL import Image

from mlcli.data.image_dataset import ImageDataset
from mlcli.models import registry
from mlcli.training import run_folder
from tests.cli import mlcli
from tests.outputs import FILES, FOLDERS, TRAINING
from tests.powerless import permissions_hold
from tests.tiny import class_folders

LONG = "n" * 300
NEARLY = "n" * 251  # bytes; a file of this name can be, and none beside it whose name is that and more
OUTPUTS = TRAINING | FOLDERS | FILES
INPUTS = {
    "train": ["{}", "-o", "out"],
    "train --val": ["d", "--val", "{}", "-o", "out"],
    "finetune --val": ["d", "--val", "{}", "-o", "out", "--model", "cifarnet"],
    "finetune --model": ["d", "--model", "{}", "-o", "out"],
    "pretext": ["{}", "-o", "out"],
    "pretext --probe": ["d", "--probe", "{}", "-o", "out"],
    "siamese-train --val": ["d", "--val", "{}", "-o", "out"],
    "pix2pix": ["{}", "-o", "out"],
    "pix2pix --from": ["d", "--side-by-side", "--from", "{}", "-o", "out"],
    "cyclegan": ["d", "{}", "-o", "out"],
    "adapt": ["--method", "adda", "d", "{}", "-o", "out"],
    "adapt --task": ["--method", "seuda", "--task", "segment", "{}", "d", "-o", "out"],
    "pairs": ["{}", "--make", "edges", "-o", "out"],
    "stylize": ["{}", "--style", "d/blue/00.png", "-o", "out.png"],
    "stylize --style": ["d/blue/00.png", "--style", "{}", "-o", "out.png"],
    "stylize --init": ["d/blue/00.png", "--style", "d/blue/00.png", "--init", "{}", "-o", "out.png"],
    "classify": ["{}", "--model", "cifarnet"],
    "classify --weights": ["d", "--model", "cifarnet", "--weights", "{}"],
    "classify --classes": ["d", "--model", "cifarnet", "--classes", "{}"],
    "neighbors --index": ["d/blue/00.png", "--among", "d", "--model", "cifarnet", "--index", "{}", "-o", "out.png"],
    "siamese-verify": ["{}", "d/blue/00.png", "d/blue/00.png"],
    "translate": ["{}", "d", "-o", "out"],
    "segment": ["{}", "d", "-o", "out"],
    "sample": ["{}", "-o", "out.png"],
}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "d", per_class=2, size=8)
    return tmp_path


def said(words, path) -> None:
    """Whether the command ends with one message about the path, and with no traceback, which `mlcli` sees to."""
    result = mlcli(*words, status=(1, 2))
    assert path in result.stderr, result.stderr


@pytest.mark.parametrize("command", OUTPUTS)
@pytest.mark.parametrize("path", [LONG, f"{LONG}/run", f"{NEARLY}.pngx"])
def test_an_output_whose_name_is_too_long(here, command, path):
    ending = ".png" if command in FILES else ""
    said([command, *OUTPUTS[command], "-o", path + ending], path[:200])
    assert sorted(os.listdir(here)) == ["d"]


@pytest.mark.parametrize("what", INPUTS)
def test_an_input_whose_name_is_too_long(here, what):
    said([what.split()[0], *(word.format(LONG) for word in INPUTS[what])], "n" * 200)


@pytest.fixture
def powerless(tmp_path, monkeypatch):
    """A folder where permissions hold; `shut` in it may not be entered."""
    class_folders(tmp_path / "d", per_class=2, size=8)
    (tmp_path / "shut").mkdir(mode=0)
    (tmp_path / "sealed" / "state").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with permissions_hold():
        yield tmp_path
    for path in (tmp_path / "shut", tmp_path / "sealed"):
        path.chmod(0o700)


@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_in_a_folder_that_may_not_be_entered(powerless, command):
    path = "shut/run.png" if command in FILES else "shut/run"
    for how in ([], ["--overwrite"]):
        said([command, *OUTPUTS[command], "-o", path, *how], f"{path}: cannot be written: Permission denied")


@pytest.mark.parametrize("what", INPUTS)
def test_an_input_in_a_folder_that_may_not_be_entered(powerless, what):
    said([what.split()[0], *(word.format("shut/x") for word in INPUTS[what])], "shut/x")


@pytest.mark.parametrize("command", ["train", "pretext", "gan", "cyclegan"])
def test_a_run_that_may_not_be_replaced_is_refused_before_data_are_read(powerless, command, monkeypatch):
    run = run_folder.Run("sealed")
    run.create({"command": command, "options": {}})
    (powerless / "sealed").chmod(0o500)
    monkeypatch.setattr(ImageDataset, "load", None)
    monkeypatch.setattr(registry, "create", None)
    words = [command, *OUTPUTS[command], "-o", "sealed", "--overwrite"]
    assert "sealed: cannot be written: Permission denied; choose" in mlcli(*words, status=1).stderr
    assert run.exists()


@pytest.mark.parametrize("command", ["pairs", "stylize"])
def test_a_folder_of_results_that_may_not_be_written_to(powerless, command):
    Image.new("RGB", (8, 8)).save("sealed/a.png")
    (powerless / "sealed").chmod(0o500)
    said([command, *OUTPUTS[command], "-o", "sealed", "--overwrite"], "sealed: cannot be written: Permission denied")

"""Folders of results that several processes, or the jobs of an array, make together: `mlcli segment`."""

import os
import shutil

import pytest
import torch

from mlcli.io import locks
from mlcli.models import registry
from mlcli.models.sources.builtin import SEGMENTER
from mlcli.training import run_folder
from tests import shapes
from tests.cli import mlcli
from tests.forks import two_processes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """run/, an untrained segmenter; images/, one of them broken; whole/, their masks."""
    root = tmp_path_factory.mktemp("divided")
    torch.manual_seed(0)
    model = registry.create(SEGMENTER, ("background", "shape"), 16, channels=1)
    run_folder.save_tensors(root / "run/model.safetensors", model.network.state_dict(), model.describe())
    shapes.write_masks(root, 6)
    (root / "images" / "00a.png").write_bytes(b"")
    assert "00a.png: empty file" in mlcli(*words(root, root / "whole"), status=1).stderr
    return root


def words(data, output, *more):
    return ("segment", data / "run", data / "images", "-o", output, "--precision", "fp32", *more)


def masks(folder):
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder)) if name.endswith(".png")}


def test_parts_make_one_folder(data, tmp_path):
    out = tmp_path / "masks"
    for part, count in (("2/3", 2), ("3/3", 3), ("1/3", 1)):  # seven images, of which the second is broken
        done = mlcli(*words(data, out, "--shard", part), status=(0, 1))
        assert f"{out}: {count} segmented, 0 up to date" in done.stderr, done.stderr
    assert masks(out) == masks(data / "whole") and len(masks(out)) == 6
    assert f"{out}: 0 segmented, 6 up to date" in mlcli(*words(data, out), status=1).stderr
    os.remove(out / "05.png")
    assert "1 segmented, 2 up to date" in mlcli(*words(data, out, "--shard", "3/3")).stderr


def test_two_processes_make_one_folder(data, tmp_path):
    group = two_processes(*words(data, tmp_path / "masks"))
    assert [fork.status() for fork in group] == [1, 1]
    assert masks(tmp_path / "masks") == masks(data / "whole")
    assert "00a.png: empty file" in group[0].said() and "6 segmented, 0 up to date" in group[0].said()
    assert not group[1].said()


def test_a_part_and_the_whole_are_not_made_at_once(data, tmp_path):
    out = tmp_path / "masks"
    with locks.part_locked(out, "1/2"):
        assert "is working on it" in mlcli(*words(data, out), status=1).stderr
        assert "is working on it" in mlcli(*words(data, out, "--shard", "1/2"), status=1).stderr
        mlcli(*words(data, out, "--shard", "2/2"))
    with locks.folder_locked(out):
        assert "is working on it" in mlcli(*words(data, out, "--shard", "1/2"), status=1).stderr
    shutil.rmtree(out)


def test_what_needs_all_images_refuses_a_part(data, tmp_path):
    said = mlcli(*words(data, tmp_path / "out", "--shard", "1/2", "--evaluate", data / "masks"), status=2).stderr
    assert "--evaluate: compares all masks; call it without --shard" in said and not os.listdir(tmp_path)

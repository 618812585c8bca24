"""`mlcli.sample` as a notebook uses it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mlcli
from mlcli.errors import UsageError, WeightsError
from mlcli.methods.generation.sampling import SAMPLER
from mlcli.networks.dcgan import Generator
from mlcli.training import run_folder
from tests.cli import mlcli as command_line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    network = Generator(16, 3, 4, 2, 2)
    description = {"kind": SAMPLER.name, "options": network.options, "classes": ["cat", "dog"]}
    run_folder.save_tensors(folder / "model.safetensors", network.state_dict(), description)
    return folder


def test_a_grid_is_that_of_the_command_and_needs_no_file(run, tmp_path):
    result = mlcli.sample(run, number=6, seed=1)
    command_line("sample", run, "-n", 6, "--seed", 1, "-o", tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert np.array_equal(np.asarray(grid), np.asarray(result.image))
    assert result.as_json() == json.loads((tmp_path / "grid.png.json").read_text())
    assert result.number == 6 and result.files == () and result.output is None
    assert result._repr_png_().startswith(b"\x89PNG")


def test_single_files_are_those_of_the_command(run, tmp_path):
    steps = []
    result = mlcli.sample(run, number=3, classes=["dog"], output=f"{tmp_path / 'ours'}/", on_progress=steps.append)
    command_line("sample", run, "-n", 3, "--class", "dog", "-o", tmp_path / "theirs")
    assert [str(file.relative_to(tmp_path / "ours")) for file in result.files] == [f"dog/{n}.png" for n in range(3)]
    for file in result.files:
        assert file.read_bytes() == (tmp_path / "theirs" / file.relative_to(tmp_path / "ours")).read_bytes()
    assert [step.done for step in steps] == [1, 2, 3] and steps[-1].total == 3
    assert result.image is None and result._repr_png_() is None
    assert json.loads((tmp_path / "ours.json").read_text()) == result.as_json()


def test_a_class_by_its_name_alone(run):
    assert mlcli.sample(run, number=2, classes="dog").record["options"]["classes"] == ["dog"]


def test_mistakes_are_errors(run, tmp_path):
    with pytest.raises(UsageError, match="no class of this generator"):
        mlcli.sample(run, classes="cow")
    with pytest.raises(WeightsError, match="not a generator"):
        mlcli.sample(Path(mlcli.__file__).parent / "weights/cifarnet.safetensors")
    (tmp_path / "there.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already"):
        mlcli.sample(run, output=tmp_path / "there.png")

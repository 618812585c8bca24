"""The options that all commands share which read images."""

import inspect
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcli.commands import COMMANDS
from mlcli.imaging import reading
from tests.cli import mlcli
from tests.written_bytes import png

READ_NO_IMAGE = {"layers", "filters", "sample", "render", "pendulum-train", "pendulum-transfer", "merge", "models"}
READ_NO_IMAGE |= {"doctor", "docs"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_that_reads_images_says_how(command):
    parameters = inspect.signature(import_module(f"mlcli.commands.{command.module}").run).parameters
    assert ("accept_truncated" in parameters, "stretch" in parameters) == (command.name not in READ_NO_IMAGE,) * 2


@pytest.fixture
def photos(tmp_path):
    """A whole file, one that is two bytes short, and one of a 12-bit sensor."""
    folder = tmp_path / "photos"
    folder.mkdir()
    red = np.full((16, 16, 3), (250, 10, 10), np.uint8)
    for name in ("whole", "short"):
        Image.fromarray(red).save(folder / f"{name}.jpg", quality=95)
    (folder / "short.jpg").write_bytes((folder / "short.jpg").read_bytes()[:-2])
    (folder / "sensor.png").write_bytes(png(16, 2, np.tile([3000, 2500, 2000], (16, 16)).astype(">u2")))
    return folder


def answered(result) -> list[str]:
    return [Path(each["image"]).name for each in json.loads(result.stdout) if "predictions" in each]


def test_what_is_cut_off_is_refused_or_accepted(photos, colors):
    refused = mlcli("classify", photos, "--model", colors, "--format", "json", status=1)
    assert "short.jpg: broken or cut off" in refused.stderr and answered(refused) == ["sensor.png", "whole.jpg"]
    accepted = mlcli("classify", photos, "--model", colors, "--format", "json", "--accept-truncated")
    assert answered(accepted) == ["sensor.png", "short.jpg", "whole.jpg"]
    assert f"1 {reading.TRUNCATED} ({photos / 'short.jpg'})" in accepted.stderr
    quiet = mlcli("classify", photos, "--model", colors, "--format", "json", "--accept-truncated", "-q")
    assert quiet.stderr == "" and quiet.stdout == accepted.stdout
    assert not reading.current().accept_truncated  # it ends with the command


def test_images_of_sensors_are_named_and_stretched(photos, colors):
    (photos / "short.jpg").unlink()
    plain = mlcli("classify", photos, "--model", colors, "--format", "json")
    assert f"1 {reading.DARK} ({photos / 'sensor.png'})" in plain.stderr
    told = mlcli("classify", photos, "--model", colors, "--format", "json", "--stretch")
    assert "near black" not in told.stderr and told.stdout != plain.stdout


def test_an_index_is_of_one_way_to_read(photos, colors, tmp_path):
    (photos / "short.jpg").unlink()

    def computed(*options):
        done = mlcli(
            "neighbors", photos / "whole.jpg", "--among", photos, "--model", colors, "-o", tmp_path / "a.png",
            "--index", tmp_path / "index", "--overwrite", *options,
        )  # fmt: skip
        return done.stderr

    computed()
    same = computed()
    other = computed("--stretch")
    assert other != same and computed("--stretch") != other


def test_a_run_goes_on_as_it_began(tmp_path, photos):
    data = tmp_path / "data"
    for name in ("one", "two"):
        (data / name).mkdir(parents=True)
        for number in range(4):
            levels = np.random.default_rng(number).integers(0, 4096 if name == "one" else 2000, (16, 16))
            Image.fromarray(levels.astype(np.uint16)).save(data / name / f"{number}.png")
    mlcli("train", data, "-o", tmp_path / "a", "--epochs", "1", "--stretch", "-q", "--size", "16", "--batch-size", "4")
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["options"]["stretch"] is True and config["options"]["accept_truncated"] is False
    seen = []
    original = reading.settle
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "settle", lambda **kwargs: (seen.append(kwargs), original(**kwargs)))
        mlcli("train", data, "-o", tmp_path / "a", "--resume", "-q")
    assert seen and all(each == {"accept_truncated": False, "stretch": True} for each in seen)
    again = mlcli("train", data, "-o", tmp_path / "a", "--resume", "--accept-truncated", "-q", status=2)
    assert "was started with accept_truncated False" in again.stderr


def test_a_folder_of_results_is_of_one_way_to_read(photos, tmp_path):
    (photos / "short.jpg").unlink()
    mlcli("pairs", photos, "--make", "edges", "-o", tmp_path / "a", "--stretch")
    assert json.loads((tmp_path / "a/pairs.json").read_text())["options"]["stretch"] is True
    mlcli("pairs", photos, "--make", "edges", "-o", tmp_path / "a", "--stretch")
    refused = mlcli("pairs", photos, "--make", "edges", "-o", tmp_path / "a", status=2)
    assert "were made with stretch True, not None" in refused.stderr

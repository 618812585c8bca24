"""`mlcli pix2pix` over real files: the run folder, resume, killed ten times, what cannot serve."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from mlcli.models import translators
from tests import drawn
from tests.cli import mlcli
from tests.killing import killed_and_resumed, two_processes_killed_and_resumed

SMALL = ["--size", 16, "--filters", 4, "--discriminator-filters", 4, "--layers", 1, "--precision", "fp32", "--seed", 3]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    drawn.write(root / "train", 6)
    drawn.write(root / "val", 2, seed=1)
    return root


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "finished"
    mlcli("pix2pix", data, "-o", run, *SMALL, "--epochs", 2, "--batch-size", 2)
    return run


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_run_folder_is_whole(finished, data):
    lines = metrics(finished)
    assert [line["step"] for line in lines] == [3, 6] and all(0 < line["val_l1"] < 1 for line in lines)
    config = json.loads((finished / "config.json").read_text())
    assert config["options"]["l1"] == 100 and config["options"]["generator"] == "unet"
    assert config["data"]["training"]["count"] == 6 and config["data"]["validation"]["count"] == 2
    assert config["data"]["training"]["value_range_A"] == [0, 255]
    assert len(list((finished / "samples").glob("translations-*.png"))) == 2
    report = (finished / "report.html").read_text()
    assert "loss_l1" in report and "data:image/png" in report and "http" not in report
    opened = translators.load(finished)
    assert opened.size == (16, 16) and opened(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)).shape == (1, 3, 16, 16)


def test_resume_of_a_finished_run_changes_nothing_and_refuses_other_options(finished, data):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    mlcli("pix2pix", data, "-o", finished, *SMALL, "--epochs", 2, "--batch-size", 2, "--resume")
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before
    assert "l1 100" in mlcli("pix2pix", data, "-o", finished, "--resume", "--l1", 5, status=2).stderr
    assert "--overwrite" in mlcli("pix2pix", data, "-o", finished, status=2).stderr


def test_killed_five_times_and_resumed_equals_never_killed(data, tmp_path):
    command = ["pix2pix", data, *SMALL, "--steps", 12, "--ema", 0.9, "--scales", 2, "--feature-matching", 1]
    steps = killed_and_resumed(5, 0, tmp_path, *command)
    assert len(set(steps)) > 2, "the kills fell into the training"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in metrics(run)] for run in (whole, broken)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("more", [(), ("--generator", "resnet-6", "--dropout", 0.5)], ids=["unet", "dropout"])
def test_two_processes_agree_with_one_and_resume(data, tmp_path, more):
    options = [*SMALL, "--batch-size", 2, "--epochs", 4, "--norm", "batch", "--device", "cpu", *more]
    command, run = ["pix2pix", data, *options], tmp_path / "two"
    mlcli(*command, "-o", tmp_path / "one")
    assert 4 <= two_processes_killed_and_resumed(run, 4, *command, "-o", run) < 12
    for ours, theirs in zip(metrics(run), metrics(tmp_path / "one"), strict=True):
        for name, value in ours.items():
            if name.startswith("loss"):
                assert value == pytest.approx(theirs[name], rel=5e-3, abs=1e-3), (ours["step"], name)


def test_pairs_that_cannot_serve_are_named_and_the_rest_trains(tmp_path):
    root = drawn.write(tmp_path / "data", 5)
    (root / "A/01.png").write_bytes(b"no image")
    (root / "B/02.png").unlink()
    said = mlcli("pix2pix", root, "-o", tmp_path / "run", *SMALL, "--steps", 1).stderr
    assert "A/01.png" in said and "A/02.png" in said
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["training"]["count"] == 3


def test_a_folder_of_photographs_is_refused_unless_it_is_said_to_hold_pairs(tmp_path):
    photos, run = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    for number, (width, height) in enumerate([(32, 16), (24, 16), (16, 24)]):
        Image.new("RGB", (width, height), (80 * number, 90, 90)).save(photos / f"{number}.png")
    command = ["pix2pix", photos, "-o", run, *SMALL, "--steps", 1]
    said = mlcli(*command, status=2).stderr
    assert "1.png (24 x 16 pixels) is not 2:1" in " ".join(said.split()) and not run.exists()
    assert all(way in said for way in ("A/", "mlcli pairs", "--side-by-side"))
    mlcli(*command, "--side-by-side")
    assert json.loads((run / "config.json").read_text())["data"]["training"]["count"] == 3
    mlcli(*command, "--resume")  # a run is not asked again
    for number in (1, 2):
        (photos / f"{number}.png").unlink()
    mlcli(*command[:3], tmp_path / "pairs", *command[4:])
    val = tmp_path / "val"
    val.mkdir()
    Image.new("RGB", (24, 16)).save(val / "0.png")
    assert "0.png" in mlcli(*command[:3], tmp_path / "other", *command[4:], "--val", val, status=2).stderr


def test_the_other_direction_gray_label_maps_and_rectangles(tmp_path):
    root = drawn.write(tmp_path / "data", 3)
    for file in (root / "A").iterdir():  # a map of two classes
        Image.open(file).convert("L").point(lambda value: value > 128).save(file)
    options = ["--size", "24x16", "--labels-a", 2, "--channels-b", 1, "--steps", 1, *SMALL[2:]]
    mlcli("pix2pix", root, "-o", tmp_path / "run", *options, "--val", 0.3)
    opened = translators.load(tmp_path / "run")
    assert opened.source.labels == 2 and opened.target.channels == 1 and opened.size == (16, 24)
    mlcli("pix2pix", root, "-o", tmp_path / "back", *options, "--direction", "BtoA")
    opened = translators.load(tmp_path / "back")
    assert opened.target.labels == 2 and opened.source.channels == 1


def test_gray_images_are_colored_and_keep_their_luma(data, tmp_path):
    mlcli("pix2pix", data, "-o", tmp_path / "run", *SMALL, "--channels-a", 1, "--keep-luminance", "--steps", 2)
    opened = translators.load(tmp_path / "run")
    given = torch.full((1, 1, 16, 16), 128, dtype=torch.uint8)
    made = opened(given)
    assert made.shape == (1, 3, 16, 16) and (made.amax(1) - made.amin(1)).max() > 0
    luma = 0.299 * made[:, 0] + 0.587 * made[:, 1] + 0.114 * made[:, 2]
    assert (luma - 128 / 255).abs().max() < 1e-5


def test_training_goes_on_from_another_run(finished, data, tmp_path):
    options = [*SMALL, "--batch-size", 2, "--lr", 0, "--steps", 1]
    mlcli("pix2pix", data, "-o", tmp_path / "next", *options, "--from", finished)
    states = [translators.load(run).network.state_dict() for run in (finished, tmp_path / "next")]
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name]) or "running" in name or "num_batches" in name
    options[3] = 8
    said = mlcli("pix2pix", data, "-o", tmp_path / "other", *options, "--from", finished, status=2).stderr
    assert "--from" in said and "filters 4, not 8; give those that its config.json lists" in said


@pytest.mark.parametrize(
    "options, message",
    [
        (["--size", "20"], "multiples of 8"),
        (["--size", "18", "--generator", "resnet-6"], "multiples of 4"),
        (["--val", "2"], "--val 2"),
        (["--accumulate", "3"], "--accumulate 3"),
        (["--labels-a", "3"], "not a map of classes"),
        (["--device", "tpu"], "--device tpu"),
        (["--keep-luminance"], "--channels-a 1"),
    ],
)
def test_mistakes_are_said(options, message, data, tmp_path):
    result = mlcli("pix2pix", data, "-o", tmp_path / "run", *options, status=1 if "--labels-a" in options else 2)
    assert message in result.stderr and not (tmp_path / "run").exists()


def test_compiled_if_asked_for(data, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    mlcli("pix2pix", data, "-o", tmp_path / "run", *SMALL, "--steps", 1, "--compile")
    assert compiled == ["UNet"]


def test_curves_for_tensorboard(data, tmp_path, monkeypatch):
    """With a stand-in for the package, which is no part of the installation."""
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append((Path(folder), purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    arguments = ["pix2pix", data, "-o", tmp_path / "run", *SMALL, "--steps", 2, "--tensorboard"]
    assert "pip install tensorboard" in mlcli(*arguments, status=2).stderr and not (tmp_path / "run").exists()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    mlcli(*arguments)
    line = metrics(tmp_path / "run")[-1]
    assert written[0] == (tmp_path / "run/tensorboard", 2) and written[-1] == "closed"
    assert ("loss_l1", line["loss_l1"], 2) in written

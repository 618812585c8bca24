"""`mlcli cyclegan` over real files: the run folder, killed ten times, two processes."""

import json

import pytest
import torch

from mlcli.models import translators
from tests import drawn
from tests.cli import mlcli
from tests.killing import killed_and_resumed, two_processes_killed_and_resumed

SMALL = ["--size", 16, "--generator", "unet", "--filters", 4, "--discriminator-filters", 4, "--layers", 1]
SMALL += ["--precision", "fp32", "--seed", 3]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn.write(tmp_path_factory.mktemp("data"), 6)


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_run_folder_is_whole(data, tmp_path):
    run = tmp_path / "run"
    options = ["--epochs", 2, "--val-a", data / "A", "--val-b", data / "B", "--sample-every", 4]
    mlcli("cyclegan", data / "A", data / "B", "-o", run, *SMALL, *options)
    assert [line["step"] for line in metrics(run)] == [6, 12] and "val_cycle_A" in metrics(run)[-1]
    names = sorted(file.name[-12:-4] for file in (run / "samples").iterdir())
    assert names == ["00000004", "00000008", "00000012"]
    for direction in ("AtoB", "BtoA"):
        assert translators.load(run, direction)(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)).shape == (1, 3, 16, 16)
    config = json.loads((run / "config.json").read_text())
    assert config["options"]["pool"] == 50 and config["data"]["training"]["count"] == 6


def test_label_flips_are_in_the_report(data, tmp_path):
    options = ["--steps", 2, "--val-a", data / "A", "--val-b", data / "B"]
    options += ["--classifier-a", "cifarnet", "--classifier-b", "cifarnet"]
    mlcli("cyclegan", data / "A", data / "B", "-o", tmp_path / "run", *SMALL, *options)
    counted = metrics(tmp_path / "run")[-1]["val_flips_AtoB"]
    assert counted * 6 == pytest.approx(round(counted * 6), abs=1e-6)
    report = (tmp_path / "run/report.html").read_text()
    assert "label flips" in report and "BtoA, validation" in report


def test_killed_five_times_and_resumed_equals_never_killed(data, tmp_path):
    """With a pool that is full after 4 steps, so that what is resumed needs the old images."""
    command = ["cyclegan", data / "A", data / "B", *SMALL, "--steps", 12, "--pool", 4]
    steps = killed_and_resumed(5, 1, tmp_path, *command)
    assert len(set(steps)) > 2, "the kills fell into the training"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in metrics(run)] for run in (whole, broken)]
    assert timeless[0] == timeless[1]


def test_two_processes_agree_with_one_and_resume(data, tmp_path):
    """Killed when the pool, which all processes hold, is full and has been drawn from."""
    options = [*SMALL, "--batch-size", 2, "--pool", 4, "--epochs", 4, "--device", "cpu"]
    command, run = ["cyclegan", data / "A", data / "B", *options], tmp_path / "two"
    mlcli(*command, "-o", tmp_path / "one")
    assert 4 <= two_processes_killed_and_resumed(run, 4, *command, "-o", run) < 12
    for ours, theirs in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        for name, value in ours.items():
            if name.startswith("loss"):
                assert value == pytest.approx(theirs[name], rel=5e-3, abs=1e-3), (ours["step"], name)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--channels-a", "1"], "--identity"),
        (["--val-a", "nowhere"], "--val-a and --val-b"),
        (["--batch-size", "4", "--accumulate", "3"], "--accumulate 3"),
        (["--classifier-a", "cifarnet", "--classifier-b", "cifarnet"], "--val-a and --val-b"),
    ],
)
def test_mistakes_are_said(options, message, data, tmp_path):
    result = mlcli("cyclegan", data / "A", data / "B", "-o", tmp_path / "run", *SMALL, *options, status=2)
    assert message in result.stderr and not (tmp_path / "run").exists()


def test_an_empty_folder_is_named(data, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty: no images there" in mlcli("cyclegan", tmp_path / "empty", data, "-o", "run", status=1).stderr

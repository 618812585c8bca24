"""`mlcli.cyclegan` as a notebook uses it."""

import json
import signal

import pytest

import mlcli
from mlcli.errors import DataError, Interrupted, UsageError
from tests import drawn
from tests.cli import mlcli as command_line

SMALL = {"size": 16, "generator": "unet", "filters": 4, "discriminator_filters": 4, "layers": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn.write(tmp_path_factory.mktemp("data"), 4)


def test_the_run_is_that_of_the_command_interrupted_or_not(data, tmp_path):
    run, told = tmp_path / "run", []

    def interrupt(step):
        told.append(step)
        if step.title == str(run) and step.done == 2:
            signal.raise_signal(signal.SIGINT)

    options = {"output": run, "epochs": 1, "val_a": data / "A", "val_b": data / "B", "pool": 2} | SMALL
    with pytest.raises(Interrupted, match="resume=True"):
        mlcli.cyclegan(data / "A", data / "B", on_progress=interrupt, **options)
    assert {step.title for step in told} >= {f"reading {data / 'A'} and {data / 'B'}", str(run)}
    result = mlcli.cyclegan(data / "A", data / "B", resume=True, **options)
    words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
    words += ["--epochs", 1, "--val-a", data / "A", "--val-b", data / "B", "--pool", 2]
    command_line("cyclegan", data / "A", data / "B", "-o", tmp_path / "other", *words)
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "other/model.safetensors").read_bytes()
    told_of = json.loads((run / "config.json").read_text())["data"]
    assert told_of["validation"]["hash"] == told_of["training"]["hash"]  # of the same two folders
    assert result.folder == run and result.metrics.keys() >= {"loss_cycle_A", "val_cycle_A", "val_cycle_B"}
    a, b = (mlcli.translate(run, data / "A/00.png", direction=each).images[0] for each in ("AtoB", "BtoA"))
    assert a.size == b.size == (16, 16) and a.tobytes() != b.tobytes()


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"val_a": "somewhere"}, UsageError, "--val-a and --val-b go together"),
        ({"classifier_a": "cifarnet"}, UsageError, "--classifier-a and --classifier-b"),
        ({"channels_a": 1}, UsageError, "--identity"),
        ({"folder_b": "nowhere/at/all.png"}, DataError, "nowhere"),
    ],
)
def test_mistakes_are_errors(options, error, message, data, tmp_path):
    with pytest.raises(error, match=message):
        mlcli.cyclegan(**{"folder_a": data / "A", "folder_b": data / "B", "output": tmp_path / "run"} | SMALL | options)
    assert not (tmp_path / "run").exists()

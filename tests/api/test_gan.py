"""`mlcli.gan` as a notebook uses it."""

import json
import signal

import pytest

import mlcli
from mlcli.errors import DataError, Interrupted, UsageError
from mlcli.runtime import device
from tests.cli import mlcli as command_line
from tests.tiny import class_folders

SMALL = {"filters": 4, "latent": 4, "batch_size": 6, "steps": 6, "evaluate_every": 3, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data"), per_class=4)


def test_the_run_is_that_of_the_command_interrupted_or_not(data, tmp_path):
    run, told = tmp_path / "run", []

    def interrupt(step):
        told.append(step)
        if step.title == str(run) and step.done == 3:
            signal.raise_signal(signal.SIGINT)

    with device.one_thread():
        with pytest.raises(Interrupted, match="resume=True"):
            mlcli.gan(data, conditional=True, compared=6, output=run, on_progress=interrupt, **SMALL)
        result = mlcli.gan(data, conditional=True, compared=6, output=run, resume=True, **SMALL)
        words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
        command_line("gan", data, "--conditional", "--compared", 6, "-o", tmp_path / "other", *words)
    assert max(step.done for step in told if step.title == str(run)) == 4  # of 6
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "other/model.safetensors").read_bytes()
    assert result.metrics.keys() >= {"generator", "discriminator", "frechet", "kernel"}
    options = json.loads((run / "config.json").read_text())["options"]
    assert options["images"] == [str(data)] and options["spectral_norm"] is True and options["size"] == 16
    assert mlcli.sample(result.folder, number=3, classes="red").number == 3


@pytest.mark.parametrize(
    "images, options, error, message",
    [
        (["a", "b"], {"conditional": True}, UsageError, "one folder of class folders, not 2"),
        ("data", {"batch_size": 64}, DataError, "12 images cannot fill a step of 64"),
        ("data", {"size": 1000}, UsageError, "size 1000: take a number from 8 to 256"),
        (object(), {}, UsageError, "has no file name"),
    ],
)
def test_mistakes_are_errors(images, options, error, message, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data.parent)
    data = images if images != "data" else data
    with pytest.raises(error, match=message):
        mlcli.gan(data, output=tmp_path / "run", **SMALL | {"compared": 0} | options)
    assert not (tmp_path / "run").exists()

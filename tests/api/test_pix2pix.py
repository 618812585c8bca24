"""`mlcli.pix2pix` as a notebook uses it."""

import json
import signal

import pytest

import mlcli
from mlcli.errors import DataError, Interrupted, UsageError
from tests import drawn
from tests.cli import mlcli as command_line

SMALL = {"size": 16, "filters": 4, "discriminator_filters": 4, "layers": 1, "precision": "fp32", "seed": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return drawn.write(tmp_path_factory.mktemp("data"), 6)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """(the result, what was told on the way) of a run."""
    told = []
    folder = tmp_path_factory.mktemp("runs") / "trained"
    return mlcli.pix2pix(data, output=folder, val=0.3, epochs=2, on_progress=told.append, **SMALL), told


def test_the_run_is_that_of_the_command(trained, data, tmp_path):
    result, told = trained
    words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", value)]
    command_line("pix2pix", data, "-o", tmp_path / "run", "--val", 0.3, "--epochs", 2, *words)
    for name in ("model.safetensors", "samples/translations-00000008.png"):
        assert (result.folder / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    ours, theirs = (json.loads((run / "config.json").read_text()) for run in (result.folder, tmp_path / "run"))
    assert ours["options"] == theirs["options"] | {"output": str(result.folder)}
    last = json.loads((result.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert result.metrics.keys() >= {"loss_l1", "val_l1"} and result.metrics.items() <= last.items()
    assert result.as_json() == {"folder": str(result.folder), "metrics": dict(result.metrics)}
    steps = [step for step in told if step.title == str(result.folder)]
    assert steps[-1].done == steps[-1].total == 8 and "loss_l1" in steps[-1].note


def test_an_interrupted_run_resumes_to_the_same_weights(trained, data, tmp_path):
    def interrupt(step):
        if step.title == str(tmp_path / "run") and step.done == 3:
            signal.raise_signal(signal.SIGINT)

    options = {"output": tmp_path / "run", "val": 0.3, "epochs": 2} | SMALL
    with pytest.raises(Interrupted, match="resume=True"):
        mlcli.pix2pix(data, on_progress=interrupt, **options)
    told = []
    result = mlcli.pix2pix(data, resume=True, on_progress=told.append, **options)
    steps = [step.done for step in told if step.title == str(result.folder)]
    assert steps[0] == 4 and steps[-1] == 8  # the step after the signal was the last one before it
    assert (result.folder / "model.safetensors").read_bytes() == (trained[0].folder / "model.safetensors").read_bytes()
    assert result.metrics == trained[0].metrics


def test_a_run_is_translated_by_and_trained_further(trained, data, tmp_path):
    made = mlcli.translate(trained[0].folder, data / "A" / "00.png", precision="fp32")
    assert made.images[0].size == (16, 16) and not made.failures
    more = mlcli.pix2pix(data, output=tmp_path / "more", from_run=trained[0].folder, steps=1, lr=0, **SMALL)
    again = mlcli.translate(more.folder, data / "A" / "00.png", precision="fp32")
    assert again.images[0].tobytes() == made.images[0].tobytes()


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"val": 2}, UsageError, "2: no such folder"),
        ({"load_size": "small"}, UsageError, "--load-size small"),
        ({"generator": "vgg"}, UsageError, "generator vgg: take one of unet"),
        ({"dropout": 1.5}, UsageError, "dropout 1.5: take a number from 0 to 0.9"),
        ({"data": "nowhere"}, DataError, "nowhere"),
    ],
)
def test_mistakes_are_errors(options, error, message, data, tmp_path):
    with pytest.raises(error, match=message):
        mlcli.pix2pix(**{"data": data, "output": tmp_path / "run"} | SMALL | options)
    assert not (tmp_path / "run").exists()

"""`mlcli.siamese_train` as a notebook uses it."""

import json
import os
import signal

import pytest
from safetensors import safe_open

import mlcli
from mlcli.errors import DataError, Interrupted, UsageError
from mlcli.methods.metric_learning.siamese import Siamese
from tests.cli import mlcli as command
from tests.tiny import identities

BRIEF = {"steps": 4, "identities": 3, "images_per_identity": 2, "dimension": 8, "size": 16, "precision": "fp32"}
WORDS = ["--steps", 4, "--identities", 3, "--images-per-identity", 2, "--dimension", 8, "--size", 16]
WORDS += ["--precision", "fp32"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return identities(tmp_path_factory.mktemp("data"), "abcdef", each=4)


def test_the_command_writes_what_the_function_returns(data, tmp_path):
    seen = []
    result = mlcli.siamese_train(data, val=0.4, output=tmp_path / "ours", on_progress=seen.append, **BRIEF)
    said = command("siamese-train", data, "--val", 0.4, "-o", tmp_path / "theirs", *WORDS)

    assert result.folder == tmp_path / "ours" and 0 <= result.metrics["val_eer"] <= 1
    assert f"val_eer {result.metrics['val_eer']:.4f}" in said.stderr
    assert (seen[-1].title, seen[-1].done, seen[-1].total) == (str(tmp_path / "ours"), 4, 4)
    ours, theirs = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("ours", "theirs"))
    assert ours == theirs
    options = json.loads((result.folder / "config.json").read_text())["options"]
    assert options.items() >= BRIEF.items()


def test_a_metric_is_solved_for_on_the_maps_of_a_trained_network(data, colors, tmp_path):
    result = mlcli.siamese_train(
        data, loss="fisher", model=colors, layer="conv1", views=1, flip=True, output=tmp_path / "run"
    )
    with safe_open(result.folder / "model.safetensors", "pt") as opened:
        found = json.loads(opened.metadata()["mlcli"])
    assert (found["layer"], found["space"], found["mirrored"]) == ("conv1", "whitened", True)
    options = json.loads((result.folder / "config.json").read_text())["options"]
    assert options["model"] == str(colors) and options["folds"] == 5 and options["size"] == 16


def test_interrupted_and_resumed_equals_never_interrupted(data, tmp_path, monkeypatch):
    step = Siamese.step

    def interrupted(self, batch, number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number)

    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="after step 2 of 4; all is saved"):
        patched.setattr(Siamese, "step", interrupted)
        mlcli.siamese_train(data, output=tmp_path / "broken", **BRIEF)
    resumed = mlcli.siamese_train(data, output=tmp_path / "broken", resume=True)
    whole = mlcli.siamese_train(data, output=tmp_path / "whole", **BRIEF)

    assert resumed.metrics == whole.metrics
    broken, unbroken = (run.folder / "model.safetensors" for run in (resumed, whole))
    assert broken.read_bytes() == unbroken.read_bytes()


def test_mistakes_are_errors(data, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="views 6: take a number from 1 to 5"):
        mlcli.siamese_train(data, output=run, views=6)
    with pytest.raises(UsageError, match="has no use for --steps"):
        mlcli.siamese_train(data, output=run, loss="fisher", steps=4)
    with pytest.raises(UsageError, match="no such folder, and no fraction"):
        mlcli.siamese_train(data, output=run, val=2)
    with pytest.raises(DataError, match="no such folder"):
        mlcli.siamese_train(tmp_path / "absent", output=run)
    assert not run.exists()

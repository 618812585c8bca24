"""`mlcli.pretext` as a notebook uses it."""

import json
import os
import signal

import numpy
import pytest

import mlcli
from mlcli.errors import DataError, Interrupted, UsageError
from mlcli.methods.learning import linear_probe
from mlcli.methods.learning.supervised import Supervised
from tests.cli import mlcli as command
from tests.tiny import class_folders

SHORT = {"epochs": 2, "model": "smallnet", "batch_size": 4, "precision": "fp32", "shift": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("photos"), per_class=4, noise=30)


def test_what_is_learned_is_a_model_and_can_be_probed(photos, tmp_path, monkeypatch):
    probe, probed = linear_probe.probe, []
    monkeypatch.setattr(linear_probe, "probe", lambda model, *others: probed.append(model) or probe(model, *others))
    labeled, seen = class_folders(tmp_path / "labeled", per_class=4, seed=1, noise=30), []
    result = mlcli.pretext(photos, output=tmp_path / "run", probe=labeled, labels=6, on_progress=seen.append, **SHORT)

    assert probed[0].name == str(result.folder) and len(probed) == 2
    assert result.folder == tmp_path / "run" and set(result.metrics) >= {"loss", "accuracy"}
    assert result.probes["labels"] == result.probes["tested"] == 6
    assert result.probes["accuracy"] == result.probes["probes"][result.probes["best layer"]]
    assert result.as_json()["probes"] == json.loads((tmp_path / "run/results.json").read_text())
    titles = {step.title: step for step in seen}
    assert (titles[str(tmp_path / "run")].done, titles[str(tmp_path / "run")].total) == (6, 6)
    assert titles["probes of an untrained network"].done == len(result.probes["probes"])

    assert mlcli.classify(photos, model=result.folder).model.classes == ("0", "90", "180", "270")
    again = mlcli.pretext(photos, output=tmp_path / "run", resume=True)
    assert again.probes == result.probes and again.metrics == result.metrics


def test_the_command_writes_the_same(photos, tmp_path):
    files = sorted(photos.rglob("*.png"))
    mlcli.pretext(files, output=tmp_path / "ours", task="jigsaw", permutations=4, **SHORT | {"epochs": 1})
    words = ["--task", "jigsaw", "--permutations", 4, "--epochs", 1, "--batch-size", 4, "--precision", "fp32"]
    words += ["--shift", 1, "--model", "smallnet"]
    command("pretext", *files, "-o", tmp_path / "theirs", *words)
    ours, theirs = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("ours", "theirs"))
    assert ours == theirs


def test_interrupted_and_resumed_equals_never_interrupted(photos, tmp_path, monkeypatch):
    step = Supervised.step

    def interrupted(self, batch, number):
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number)

    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="after step 3 of 6; all is saved"):
        patched.setattr(Supervised, "step", interrupted)
        mlcli.pretext(photos, output=tmp_path / "broken", **SHORT)
    resumed = mlcli.pretext(photos, output=tmp_path / "broken", resume=True)
    whole = mlcli.pretext(photos, output=tmp_path / "whole", **SHORT)

    assert resumed.metrics == whole.metrics and resumed.probes is None
    broken, unbroken = (run.folder / "model.safetensors" for run in (resumed, whole))
    assert broken.read_bytes() == unbroken.read_bytes()


def test_mistakes_are_errors(photos, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="task colors: take one of rotation, jigsaw"):
        mlcli.pretext(photos, output=run, task="colors")
    with pytest.raises(UsageError, match="an image in memory"):
        mlcli.pretext(numpy.zeros((8, 8), "uint8"), output=run)
    with pytest.raises(UsageError, match="with --probe"):
        mlcli.pretext(photos, output=run, val=photos)
    with pytest.raises(DataError, match="no readable image"):
        mlcli.pretext(tmp_path / "absent.png", output=run)
    assert not run.exists()

"""`mlcli.finetune` as a notebook uses it."""

import json
import os
import signal

import pytest

import mlcli
from mlcli.errors import DataError, Interrupted, UsageError
from mlcli.methods.learning.finetuning import FineTuning
from tests.cli import mlcli as command
from tests.tiny import class_folders

QUICK = {"precision": "fp32", "copies": 0}
DEEP = QUICK | {"freeze": "conv4", "epochs": 1, "batch_size": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data"), per_class=4, noise=30)


def test_a_result_has_its_folder_and_its_evaluations(data, colors, tmp_path):
    seen = []
    result = mlcli.finetune(data, output=tmp_path / "run", model=colors, on_progress=seen.append, **QUICK)

    assert result.folder == tmp_path / "run"
    assert list(result.evaluations) == ["folds"] and result.evaluations["folds"]["count"] == 12
    assert 0 <= result.evaluations["folds"]["accuracy"] <= 1
    assert result.as_json() == {
        "folder": str(tmp_path / "run"),
        "results": json.loads((tmp_path / "run/results.json").read_text()),
    }
    titles = {step.title: step for step in seen}
    assert (titles["features of the training images"].done, titles["features of the training images"].total) == (12, 12)

    model = mlcli.classify(data, evaluate=True, model=result.folder).model
    assert model.classes == ("blue", "green", "red")


def test_the_command_writes_the_same(data, colors, tmp_path):
    mlcli.finetune(str(data), output=str(tmp_path / "ours"), model=str(colors), **QUICK)
    said = command("finetune", data, "-o", tmp_path / "theirs", "--model", colors, "--precision", "fp32", "--copies", 0)
    for name in ("model.safetensors", "results.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes()
    accuracy = json.loads((tmp_path / "ours/results.json").read_text())["folds"]["accuracy"]
    assert f"done; folds: accuracy {accuracy:.1%}" in said.stderr


def test_interrupted_and_resumed_equals_never_interrupted(data, colors, tmp_path, monkeypatch):
    options = {"model": colors, "val": 0.5, **DEEP}
    step = FineTuning.step

    def interrupted(self, batch, number):
        os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number)

    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="the same call with resume=True"):
        patched.setattr(FineTuning, "step", interrupted)
        mlcli.finetune(data, output=tmp_path / "broken", **options)
    resumed = mlcli.finetune(data, output=tmp_path / "broken", resume=True)
    whole = mlcli.finetune(data, output=tmp_path / "whole", **options)

    assert resumed.results == whole.results and set(whole.evaluations) == {"last layer alone", "validation"}
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("broken", "whole")]
    assert weights[0] == weights[1]


def test_mistakes_are_errors(data, colors, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="folds 1: take a number from 2 to 100"):
        mlcli.finetune(data, output=run, model=colors, folds=1)
    with pytest.raises(UsageError, match="no layer"):
        mlcli.finetune(data, output=run, model=colors, freeze="conv8")
    with pytest.raises(UsageError, match="--baseline"):
        mlcli.finetune(data, output=run, model=colors, baseline=True, **QUICK)
    with pytest.raises(DataError, match="no such folder"):
        mlcli.finetune(tmp_path / "absent", output=run, model=colors)
    assert not run.exists()

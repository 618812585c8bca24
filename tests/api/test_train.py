import json

import pytest

import mlcli
from mlcli.errors import MlcliError, RunError, UsageError
from mlcli.methods.learning.supervised import Supervised
from mlcli.training.run_folder import Run
from tests.cli import mlcli as command_line
from tests.tiny import class_folders

QUICK = {"epochs": 2, "model": "smallnet", "batch_size": 6, "precision": "fp32", "save_every": 0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data") / "classes", per_class=6)


def test_a_run_from_python_is_that_of_the_command(data, tmp_path):
    steps = []
    run = mlcli.train(data, output=tmp_path / "a", val=0.2, on_progress=steps.append, **QUICK)
    words = ["--epochs", 2, "--model", "smallnet", "--batch-size", 6, "--precision", "fp32"]
    command_line("train", data, "-o", tmp_path / "b", "--val", "0.2", *words)
    model = (run.folder / "model.safetensors").read_bytes()
    assert model == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert run.as_json()["metrics"]["val_accuracy"] == Run(tmp_path / "b").metrics()[-1]["val_accuracy"]
    assert steps[-1].done == steps[-1].total
    (prediction,) = mlcli.classify(sorted(data.rglob("*.png"))[0], model=str(run.folder), top_k=1).predictions
    assert prediction.classes[0][0] in ("blue", "green", "red")


def test_interrupted_and_resumed_equals_never_interrupted(data, tmp_path, monkeypatch):
    whole = mlcli.train(data, output=tmp_path / "whole", **QUICK)
    step = Supervised.step

    def broken(self, batch, number):
        if number == 3:
            raise MlcliError("a power failure")
        return step(self, batch, number)

    with monkeypatch.context() as patch, pytest.raises(MlcliError, match="a power failure"):
        patch.setattr(Supervised, "step", broken)
        mlcli.train(data, output=tmp_path / "parts", **QUICK)
    with pytest.raises(UsageError, match="holds a run already"):
        mlcli.train(data, output=tmp_path / "parts", **QUICK)
    parts = mlcli.train(data, output=tmp_path / "parts", resume=True)
    assert parts.metrics == whole.metrics
    assert (parts.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_a_run_of_an_earlier_version_is_not_resumed(data, tmp_path):
    run = mlcli.train(data, output=tmp_path / "run", **QUICK)
    config = json.loads((run.folder / "config.json").read_text())
    del config["format"]
    (run.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="format 1"):
        mlcli.train(data, output=run.folder, resume=True)
    assert mlcli.classify(data / "blue", model=str(run.folder)).predictions


@pytest.mark.parametrize("options", [{"epochs": 0}, {"optimizer": "adam"}, {"val": "nowhere"}, {"device": "abacus"}])
def test_what_cannot_be_trained_is_said(data, tmp_path, options):
    with pytest.raises(UsageError):
        mlcli.train(data, output=tmp_path / "run", **QUICK | options)
    assert not (tmp_path / "run").exists()

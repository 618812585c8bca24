"""`mlcli.adapt` as a notebook calls it, against what the command prints and writes."""

import json
import signal

import pytest

from mlcli.api.adapt import adapt
from mlcli.api.adaptation_data import read
from mlcli.api.adaptation_options import hyperparameters
from mlcli.api.common import Trains
from mlcli.errors import Interrupted, UsageError
from mlcli.imaging import decoder
from tests import shapes
from tests.cli import mlcli

QUICK = {"method": "adda", "source_steps": 3, "steps": 6, "batch_size": 6, "candidates": 2, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("domains")
    for name, count in (("source", 18), ("target", 18), ("test", 9)):
        shapes.write(root / name, count, len(name), target=name != "source")
        shapes.write_masks(root / "masks" / name, count, len(name), target=name != "source")
    return root


def files(run):
    """The models of every stage and the table."""
    kept = (path for path in run.rglob("*") if path.suffix == ".safetensors" or path.name == "results.json")
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in kept}


def test_the_table_and_the_models_are_those_of_the_command(data, tmp_path):
    steps = []
    options = {"test": data / "test", "seeds": 2, "on_progress": steps.append}
    result = adapt(data / "source", str(data / "target"), output=tmp_path / "ours", **QUICK, **options)
    words = ["adapt", data / "source", data / "target", "-o", tmp_path / "theirs", "--test", data / "test"]
    words += ["--method", "adda", "--source-steps", 3, "--steps", 6, "--batch-size", 6, "--candidates", 2, "--seeds", 2]
    printed = json.loads(mlcli(*words, "--precision", "fp32", "--format", "json").stdout)
    assert result.as_json() == printed and len(result.results["adapted"]["runs"]) == 2
    assert result.folder == tmp_path / "ours" and files(tmp_path / "ours") == files(tmp_path / "theirs")
    titles = {step.title for step in steps}
    assert f"reading {data / 'source'}" in titles and str(tmp_path / "ours/seed-1/adapted") in titles


def test_an_interrupted_run_is_resumed_to_the_same_numbers(data, tmp_path):
    whole = adapt(data / "source", data / "target", output=tmp_path / "whole", **QUICK)

    def interrupt(step):
        if step.title == str(tmp_path / "run/seed-0/adapted") and step.done == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="resume=True"):
        adapt(data / "source", data / "target", output=tmp_path / "run", on_progress=interrupt, **QUICK)
    assert not (tmp_path / "run/results.json").exists()
    resumed = adapt(data / "source", data / "target", output=tmp_path / "run", method="adda", resume=True)
    assert resumed.results == whole.results and files(tmp_path / "run") == files(tmp_path / "whole")


def test_a_finished_run_says_so_without_decoding_its_data(data, tmp_path, monkeypatch):
    result = adapt(data / "source", data / "target", output=tmp_path / "run", test=data / "test", **QUICK)
    again = {"output": tmp_path / "run", "method": "adda", "resume": True}
    with monkeypatch.context() as patch:
        patch.setattr("mlcli.api.adaptation_data.read", None)
        assert adapt(data / "source", data / "target", **again).results == result.results
        with pytest.raises(TypeError):  # more is asked of it
            adapt(data / "source", data / "target", seeds=2, **again)
    more = adapt(data / "source", data / "target", seeds=2, **again)
    assert more.results["adapted"]["runs"][0] == result.results["adapted"]["runs"][0]


@pytest.mark.parametrize("task, method", [("classify", "adda"), ("segment", "seuda")])
def test_the_target_is_decoded_once(data, task, method, monkeypatch):
    root = data if task == "classify" else data / "masks"
    decoded, opened = [], decoder.opened

    def counting(path, *arguments):
        decoded.append(str(path))
        return opened(path, *arguments)

    monkeypatch.setattr(decoder, "opened", counting)
    options = {"source": str(root / "source"), "target": str(root / "target"), "test": None, "gray": False, "size": 16}
    options |= {"task": task, "method": method, "target_labels": True}
    trains = Trains(output=root / "run", workers=1)
    found = read(options, [hyperparameters(options)], None, None, trains)
    target = [path for path in decoded if str(root / "target") in path and "target/masks" not in path]
    assert len(found.target) == len(found.labeled_target) == 18 and found.target.labels is None
    assert len(target) == len(set(target)) == 18
    assert found.labeled_target.images.equal(found.target.images), "both are in the order of their contents"


def test_errors_are_of_mlcli_and_nothing_is_printed(data, tmp_path, capfd):
    for options, message in (
        ({"history": 5}, "--history: an option of --method simgan, not of adda"),
        ({"steps": 0}, "steps 0: take a number at least 1"),
        ({"method": "nosuch"}, "method nosuch: take one of adda"),
        ({"task": "segment"}, "--method adda does classify"),
    ):
        with pytest.raises(UsageError, match=message):
            adapt(data / "source", data / "target", output=tmp_path / "run", **QUICK | options)
    assert capfd.readouterr() == ("", "") and not (tmp_path / "run").exists()

"""`mlcli adapt` with a model of the source that is there already, and without the source."""

import json
import shutil

import pytest

from mlcli.models import registry
from tests.adaptations import QUICK, adapt, files, write_domains
from tests.cli import mlcli


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_domains(tmp_path_factory.mktemp("domains"))


@pytest.fixture(scope="module")
def source_run(data, tmp_path_factory):
    """A run whose first stage is a model of the source."""
    run = tmp_path_factory.mktemp("source") / "run"
    adapt(data, run, "--test", data / "test", method="shot")
    return run


def test_without_the_source_its_model_is_adapted_to_the_same_bits(data, source_run, tmp_path):
    source_model = source_run / "seed-0/source"
    words = ["adapt", "--method", "shot", "--model", source_model, data / "bare", *QUICK, "--test", data / "test"]
    mlcli(*words, "-o", tmp_path / "run")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (source_run / "model.safetensors").read_bytes()
    ours, theirs = (json.loads((run / "results.json").read_text()) for run in (tmp_path / "run", source_run))
    assert ours["adapted"] == theirs["adapted"] and ours["source_only"] == theirs["source_only"]
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert "source" not in config["data"] and config["data"]["model"]["hash"] == registry.load(str(source_model)).hash
    assert not (tmp_path / "run/seed-0/source").exists()
    page = (tmp_path / "run/report.html").read_text()
    assert "source only" in page and "first two principal components" not in page
    before = files(tmp_path / "run")
    mlcli(*words, "-o", tmp_path / "run", "--resume")
    assert files(tmp_path / "run") == before


@pytest.mark.parametrize("method", ["adda", "seuda", "dann", "self-ensembling"])
def test_a_run_is_the_source_model_of_any_method(method, data, source_run, tmp_path):
    adapt(data, tmp_path / "run", "--model", source_run / "seed-0/source", "--test", data / "test", method=method)
    ours, theirs = (json.loads((run / "results.json").read_text()) for run in (tmp_path / "run", source_run))
    assert ours["source_only"] == theirs["source_only"]
    assert sorted(each.name for each in (tmp_path / "run/seed-0").iterdir()) == ["adapted"]


def test_of_a_run_its_model_alone_may_have_been_kept(data, source_run, tmp_path):
    (tmp_path / "kept").mkdir()
    shutil.copy(source_run / "seed-0/source/model.safetensors", tmp_path / "kept")
    adapt(data, tmp_path / "run", "--model", tmp_path / "kept", "--test", data / "test", method="shot")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (source_run / "model.safetensors").read_bytes()


def test_batch_norm_is_adapted_without_the_source_and_must_be_there(data, tmp_path):
    adapt(data, tmp_path / "both", method="adabn")
    words = ["adapt", "--method", "adabn", data / "bare", "--precision", "fp32"]
    mlcli(*words, "--model", tmp_path / "both/seed-0/source", "-o", tmp_path / "alone")
    ours, theirs = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "both"))
    assert ours == theirs
    told = adapt(data, tmp_path / "run", "--model", "lenet", method="adabn", status=2).stderr
    assert "--model lenet: has no batch norm" in told and "take lenet-bn, digits or cifarnet" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--method", "adda", "--model", "RUN"], "TARGET is missing; the target alone, with the --model of the source"),
        (["--method", "shot"], "name the --model of the source"),
        (["--method", "shot", "--model", "RUN", "--hold-out", 0.5], "--hold-out and --max-source are about SOURCE"),
        (["--method", "shot", "--model", "nosuch"], "neither a run folder nor a known model"),
    ],
)
def test_a_target_alone_needs_a_model_and_a_method_that_needs_no_source(words, said, data, source_run, tmp_path):
    words = [source_run / "seed-0/source" if word == "RUN" else word for word in words]
    assert said in mlcli("adapt", *words, data / "bare", "-o", tmp_path / "run", status=2).stderr
    assert not (tmp_path / "run").exists()

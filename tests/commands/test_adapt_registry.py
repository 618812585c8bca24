"""A new method of `mlcli adapt` is one file and one entry, with options of its own, also where it trains nothing."""

import importlib
import json

import pytest

from mlcli.api import adapt as function
from mlcli.api import stored_options
from mlcli.commands import adapt as command
from mlcli.counting import joined
from mlcli.methods.adaptation import registry
from tests import shapes
from tests.cli import mlcli
from tests.matched_contrast import MatchedContrast

QUICK = ["--method", "contrast", "--source-steps", 60, "--precision", "fp32"]


def reload():
    """Build the function and its command again, whose options are those of the methods."""
    importlib.reload(function)
    stored_options._of_command.cache_clear()
    importlib.reload(command)


@pytest.fixture
def registered(monkeypatch):
    """The entry, by which function and command are built again; they read the methods once."""
    entry = registry.AdaptationMethod(
        "tests.matched_contrast", MatchedContrast, "target images at the contrast of the source", ("classify",)
    )
    with monkeypatch.context() as patch:
        patch.setitem(registry.METHODS, "contrast", entry)
        reload()
        yield
    reload()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("domains")
    shapes.write(root / "source", 90)
    shapes.write(root / "target", 90, 1, target=True, labeled=False)
    shapes.write(root / "test", 60, 2, target=True)
    return root


def test_a_method_that_trains_nothing_has_a_table_a_report_and_a_model(registered, data, tmp_path):
    run = tmp_path / "run"
    words = ["adapt", data / "source", data / "target", "-o", run, *QUICK, "--test", data / "test", "--seeds", 2]
    result = json.loads(mlcli(*words, "--format", "json").stdout)
    assert result == json.loads((run / "results.json").read_text())
    assert result["adapted"]["mean"] > result["source_only"]["mean"] + 0.1, "the target is paler than the source"
    assert "selection" not in result and "last" not in result and "best_possible" not in result
    assert len(result["contrast"]) == 2 and len(result["mcnemar"]) == 2
    page = (run / "report.html").read_text()
    assert "source only" in page and f"{result['adapted']['mean']:.2%}" in page and "seed-1/source" in page
    assert "chosen without labels" not in page and (run / "samples/domains-before-and-after.png").exists()
    evaluation = ["--evaluate", "--format", "json", "--precision", "fp32"]
    said = json.loads(mlcli("classify", "--model", run, data / "test", *evaluation).stdout)
    assert said["accuracy"] == pytest.approx(result["adapted"]["runs"][0]), "the model of the run is the adapted one"
    table = mlcli(*words, "--resume").stdout
    assert "adapted" in table and "McNemar" in table and "chosen" not in table
    csv = mlcli(*words, "--resume", "--format", "csv").stdout
    assert csv.splitlines()[0] == "model,accuracy,sd,low,high,runs"


def test_without_a_test_set_the_result_still_has_guards(registered, data, tmp_path):
    said = mlcli("adapt", data / "source", data / "target", "-o", tmp_path / "run", *QUICK, "--source-steps", 2)
    result = json.loads((tmp_path / "run/results.json").read_text())
    assert "adapted" not in result and "guards" in result and "Traceback" not in said.stderr


def test_its_own_option_is_on_the_command_line_and_options_of_training_are_not_its(registered, data, tmp_path):
    assert "--weight" in mlcli("adapt", "--help").stdout
    words = ["adapt", data / "source", data / "target", "--test", data / "test", *QUICK, "--format", "json"]
    none = json.loads(mlcli(*words, "-o", tmp_path / "none", "--weight", 0).stdout)
    assert none["adapted"] == none["source_only"]
    assert json.loads((tmp_path / "none/config.json").read_text())["options"]["weight"] == 0
    mlcli(*words, "-o", tmp_path / "none", "--weight", 2, status=2)
    said = mlcli(*words, "-o", tmp_path / "steps", "--steps", 5, status=2).stderr
    optimizing = joined([name for name in registry.METHODS if name not in ("adabn", "contrast")])
    assert f"--steps: an option of --method {optimizing}, not of contrast" in said
    of_adda = ["adda" if word == "contrast" else word for word in words]
    said = mlcli(*of_adda, "-o", tmp_path / "other", "--weight", 1, status=2).stderr
    assert "--weight: an option of --method contrast, not of adda" in said


def test_after_the_test_the_method_is_gone():
    assert "contrast" not in registry.METHODS and "--weight " not in mlcli("adapt", "--help").stdout

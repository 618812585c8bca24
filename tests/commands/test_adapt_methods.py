"""`mlcli adapt` with several methods in one run: one table, and what each would have done alone."""

import csv
import io
import json

import pytest

import mlcli as package
from mlcli.errors import UsageError
from tests.adaptations import QUICK, adapt, files, write_domains
from tests.cli import mlcli

SEVERAL = ["--method", "adda,dann,adabn"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_domains(tmp_path_factory.mktemp("domains"))


def compare(data, run, *options, status=0):
    words = [data / "source", data / "target", "--test", data / "test", "-o", run, *QUICK, "--format", "json"]
    return mlcli("adapt", *words, *options, status=status)


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    """(the run, what it printed)"""
    run = tmp_path_factory.mktemp("compared") / "run"
    return run, json.loads(compare(data, run, *SEVERAL).stdout)


@pytest.mark.parametrize("method", ("adda", "dann", "adabn"))
def test_each_method_does_what_it_does_alone(method, data, compared, tmp_path):
    run, result = compared
    alone = json.loads(adapt(data, tmp_path / "run", "--test", data / "test", "--format", "json", method=method).stdout)
    of_method = result["methods"][method]
    assert of_method == json.loads((run / method / "results.json").read_text())
    # adabn has no --keep adapted in the helper, and that is all that differs
    same = [name for name in alone if name not in ("measured_on", "kept", "guards")]
    assert {name: of_method[name] for name in same} == {name: alone[name] for name in same}
    learned = files(tmp_path / "run")
    if method == "dann":  # its source model is that of adda
        learned = {name: content for name, content in learned.items() if "/source/" not in name}
    assert files(run / method) == learned


def test_a_source_model_that_two_methods_train_alike_is_trained_once(compared):
    run, _ = compared
    assert (run / "adda/seed-0/source/model.safetensors").exists()
    assert not (run / "dann/seed-0/source").exists(), "that of adda"
    assert (run / "adabn/seed-0/source/model.safetensors").exists(), "another network"


def test_the_run_holds_the_model_of_the_method_that_seems_best(data, compared):
    run, result = compared
    best, scores = result["best"]["method"], result["best"]["scores"]
    assert result["best"]["criterion"] == "im" and scores.keys() == result["methods"].keys()
    assert scores[best] == max(scores.values())
    assert (run / "model.safetensors").read_bytes() == (run / best / "model.safetensors").read_bytes()
    words = ["classify", "--model", run, data / "test", "--evaluate", "--format", "json", "--precision", "fp32"]
    of_best = result["methods"][best]
    assert json.loads(mlcli(*words).stdout)["accuracy"] == pytest.approx(of_best["adapted"]["mean"])


def test_a_finished_run_is_resumed_for_nothing_and_a_killed_one_to_the_same(data, compared):
    run, result = compared
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    words = [each for name in SEVERAL[1].split(",") for each in ("--method", name)]  # the same, one by one
    assert json.loads(compare(data, run, *words, "--resume").stdout) == result
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before

    learned = files(run)
    for file in ("results.json", "report.html", "model.safetensors", "dann/results.json", "dann/model.safetensors"):
        (run / file).unlink()
    assert json.loads(compare(data, run, *SEVERAL, "--resume").stdout) == result
    assert files(run) == learned and (run / "report.html").exists()

    said = compare(data, run, "--method", "adda,dann", "--resume", status=2).stderr
    assert "was started with method ['adda', 'dann', 'adabn']" in said


def test_the_table_the_numbers_and_the_page(data, compared):
    run, result = compared
    words = ["adapt", *SEVERAL, data / "source", data / "target", "-o", run, "--resume"]
    text = mlcli(*words).stdout
    for method, each in result["methods"].items():
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [method])
        assert f"{each['adapted']['mean']:.2%}" in line and f"{each['source_only']['mean']:.2%}" in line
    assert f"model of the run: that of {result['best']['method']}: its im is the highest" in text
    rows = list(csv.DictReader(io.StringIO(mlcli(*words, "--format", "csv").stdout)))
    assert {row["method"] for row in rows} == result["methods"].keys()
    (adapted,) = (row for row in rows if (row["method"], row["model"]) == ("dann", "adapted"))
    assert float(adapted["accuracy"]) == pytest.approx(result["methods"]["dann"]["adapted"]["mean"])
    page = (run / "report.html").read_text()
    for method in result["methods"]:
        assert f'href="{method}/report.html"' in page and (run / method / "report.html").exists()
    own = (run / "adda/report.html").read_text()
    assert "source only" in own and "--steps" in own and 'href="seed-0/source/report.html"' in own


def test_a_method_inside_a_run_is_not_resumed_alone(data, compared):
    said = compare(data, compared[0] / "adda", "--method", "adda", "--resume", status=2).stderr
    assert "a run of `mlcli adapt (a method of the run in ..)`" in said


def test_replacing_a_run_of_several_methods_removes_them(data, tmp_path):
    run, quick = tmp_path / "run", ["--source-steps", 2, "--steps", 1, "--candidates", 1]
    words = [data / "source", data / "bare", "-o", run, *quick]
    mlcli("adapt", "--method", "adda,adabn", *words)
    (run / "adabn/mine.txt").write_text("mine")
    mlcli("adapt", "--method", "dann", *words, "--overwrite")
    assert not (run / "adda").exists()
    assert [file.name for file in run.glob("adabn/*")] == ["mine.txt"]


def test_options_belong_to_one_of_the_methods(data, tmp_path):
    said = compare(data, tmp_path / "run", "--method", "adda,dann", "--pseudo", 0.1, status=2).stderr
    assert "--pseudo: an option of --method shot, not of adda and dann" in said
    compare(data, tmp_path / "run", "--method", "adabn,adda", "--discriminator-input", "logits")
    config = json.loads((tmp_path / "run/adda/config.json").read_text())
    assert config["options"]["discriminator_input"] == "logits"


@pytest.mark.parametrize("given", ("adda,nothing", "adda,", ","))
def test_a_name_that_is_no_method_is_refused(given, data, tmp_path):
    said = compare(data, tmp_path / "run", "--method", given, status=2).stderr
    assert "is not one of 'adda'" in said.replace("\n", " ") and not (tmp_path / "run").exists()


def test_methods_without_a_source(data, tmp_path):
    mlcli("train", data / "source", "-o", tmp_path / "model", "--model", "lenet-bn", "--epochs", 2, "--size", 32)
    words = ["adapt", "--model", tmp_path / "model", data / "bare", "--test", data / "test", "--format", "json"]
    words += ["--steps", 3, "--candidates", 1]
    said = mlcli(*words, "--method", "shot,adda", "-o", tmp_path / "run", status=2).stderr
    assert "is for --method adabn and --method shot" in said
    result = json.loads(mlcli(*words, "--method", "shot,adabn", "-o", tmp_path / "run").stdout)
    shot, adabn = (result["methods"][name] for name in ("shot", "adabn"))
    assert shot["source_only"] == adabn["source_only"], "the model that was given"


@pytest.mark.parametrize("given", (None, [], [None], 5))
def test_what_names_no_method_is_refused_in_python_too(given, data, tmp_path):
    with pytest.raises(UsageError, match="name one"):
        package.adapt(data / "source", data / "target", method=given, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()

"""`mlcli siamese-train` over real files: learning, resume, several processes, and data that is not as it should be."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from mlcli.methods.metric_learning.fisher import Fisher
from mlcli.models.model import Model
from mlcli.runtime import device
from tests.cli import mlcli
from tests.forks import two_processes
from tests.killing import killed_at
from tests.tiny import identities

BRIEF = ["--steps", 30, "--identities", 6, "--images-per-identity", 3, "--dimension", 8, "--size", 16]
BRIEF += ["--precision", "fp32"]
NAMES = [f"{group}/{name}" for group in ("greek", "latin") for name in "abcde"]


@pytest.fixture(scope="module", autouse=True)
def as_many_threads_as_in_a_process_of_its_own():
    """Sums in another order differ in their last bits."""
    with device.one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return identities(tmp_path_factory.mktemp("data"), NAMES)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "brief"
    mlcli("siamese-train", data, "-o", run, *BRIEF, "--val", 0.3, "--false-accept-rate", 0.1)
    return run


def description(run: Path) -> dict:
    with safe_open(run / "model.safetensors", "pt") as opened:
        return json.loads(opened.metadata()["mlcli"])


def metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_learns_and_stores_threshold_roc_and_calibration(finished):
    found = description(finished)
    assert found["kind"] == "Siamese network" and found["preprocessing"]["channels"] == 1
    calibration = found["calibration"]
    assert calibration["auc"] > 0.95 and calibration["asked"] == 0.1
    assert calibration["pairs"] == {"same": 3 * 15, "different": 3 * 36}
    curve = calibration["curve"]
    accepted = max(
        f for f, t in zip(curve["false_accept"], curve["threshold"], strict=True) if t <= calibration["threshold"]
    )
    assert accepted == pytest.approx(0.1, abs=0.02)
    assert calibration["probability"]["slope"] > 0
    last = metrics(finished)[-1]
    assert last["step"] == 30 and last["val_auc"] == pytest.approx(calibration["auc"])
    report = (finished / "report.html").read_text()
    assert "ROC curve" in report and "Distances of pairs" in report
    assert "Nearest pairs of different identities, step 30" in report
    assert "Farthest pairs of one identity, step 30" in report
    measured = json.loads((finished / "results.json").read_text())["verification"]
    assert measured["auc"] == calibration["auc"] and measured["threshold"] == calibration["threshold"]
    assert measured["pairs"] == calibration["pairs"] and sum(measured["distances"]["same"]) == 3 * 15
    config = json.loads((finished / "config.json").read_text())
    assert (config["data"]["training"]["classes"], config["data"]["validation"]["classes"]) == (7, 3)


@pytest.mark.parametrize("loss", [["triplet", "--margin", 0.3], ["contrastive", "--margin", 0.9], ["weighted-l1"]])
def test_every_loss_learns(loss, data, tmp_path):
    mlcli("siamese-train", data, "-o", tmp_path / "run", *BRIEF, "--loss", *loss, "--val", 0.3)
    assert description(tmp_path / "run")["calibration"]["auc"] > 0.9


@pytest.mark.parametrize(
    "options, few",
    [
        ([*BRIEF, "--steps", 1, "--val", 0.3, "--false-accept-rate", 0.09], ("112", "108")),  # 3 x 36; 10 / 0.09
        ([*BRIEF, "--steps", 1, "--val", 0.3, "--false-accept-rate", 0.1], None),
        # five folds of two of ten identities: 5 x 36
        (["--loss", "fisher", "--layer", "conv1", "--size", 16, "--false-accept-rate", 0.05], ("200", "180")),
        (["--loss", "fisher", "--layer", "conv1", "--size", 16, "--val", "OTHER", "--false-accept-rate", 0.05], None),
    ],
)
def test_a_rate_that_so_few_pairs_cannot_keep_is_said(options, few, data, tmp_path):
    other = identities(tmp_path / "other", "vwxyz", seed=1)  # 10 x 36 pairs
    options = [other if word == "OTHER" else word for word in options]
    said = mlcli("siamese-train", data, "-o", tmp_path / "run", *options, "--quiet").stderr
    if few:
        needed, there = few
        assert f"needs {needed} pairs" in said and f"there are {there}: give more images or identities" in said
    else:
        assert "pairs of images" not in said


def test_killed_and_resumed_equals_never_killed(data, finished, tmp_path):
    run = tmp_path / "run"
    words = ["siamese-train", data, "-o", run, *BRIEF, "--val", 0.3, "--false-accept-rate", 0.1]
    assert 4 <= killed_at(run, 4, *words) < 30
    mlcli(*words, "--resume")
    assert (run / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert metrics(run) == metrics(finished)
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    mlcli("siamese-train", data, "-o", run, "--resume")
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before
    assert "steps 30" in mlcli("siamese-train", data, "-o", run, "--resume", "--steps", 40, status=2).stderr


def test_two_processes_agree_with_one(data, tmp_path):
    """The hard pairs are mined in the batch of both; this loss and its space have weights of their own."""
    words = ["siamese-train", data, *BRIEF, "--steps", 6, "--loss", "weighted-l1", "--optimizer", "adamw", "--lr", 1e-3]
    mlcli(*words, "-o", tmp_path / "one", "--device", "cpu")
    for fork in two_processes(*words, "-o", tmp_path / "two", "--device", "cpu"):
        fork.succeed()
    for ours, theirs in zip(metrics(tmp_path / "two"), metrics(tmp_path / "one"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    one, two = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "two"))
    for name, tensor in one.items():
        assert (tensor.float() - two[name].float()).norm() <= 2e-2 * tensor.float().norm() + 1e-3, name


FISHER = ["--loss", "fisher", "--layer", "conv1", "--size", 16, "--flip"]


@pytest.fixture(scope="module")
def solved(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "solved"
    mlcli("siamese-train", data, "-o", run, *FISHER)
    return run


def test_a_metric_solved_for_tells_identities_apart_that_were_left_out(data, solved, tmp_path):
    found = description(solved)
    assert (found["layer"], found["space"], found["architecture"]) == ("conv1", "whitened", "cifarnet")
    assert found["calibration"]["auc"] > 0.95
    assert found["calibration"]["pairs"]["same"] == 10 * 15  # each identity was left out once
    other = identities(tmp_path / "other", "vwxyz", seed=1)
    figures = json.loads(mlcli("siamese-verify", solved, "--evaluate", other, "--format", "json").stdout)
    assert figures["auc"] > 0.95 and figures["pairs"] == {"same": 5 * 15, "different": 10 * 36}
    one, two = other / "v/00.png", other / "w/03.png"
    there, back = (
        json.loads(mlcli("siamese-verify", solved, *pair, "--format", "json").stdout)["distance"]
        for pair in ((one, two), (two, one))
    )
    assert there == pytest.approx(back, abs=1e-6) and there > 0.1


def test_a_metric_killed_on_the_way_is_solved_as_if_never_killed(data, solved, tmp_path):
    run = tmp_path / "run"
    words = ["siamese-train", data, "-o", run, *FISHER]
    assert 1 <= killed_at(run, 1, *words) < 3
    mlcli(*words, "--resume")
    assert (run / "model.safetensors").read_bytes() == (solved / "model.safetensors").read_bytes()


def test_a_metric_begun_by_one_process_is_gone_on_with_by_two(data, solved, tmp_path, monkeypatch):
    """And by no other weights, and with the folds that it was started with."""
    words = ["siamese-train", data, "-o", tmp_path / "two", *FISHER, "--device", "cpu"]
    step = Fisher.step

    def interrupted(self, batch, number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number)

    with monkeypatch.context() as patched:
        patched.setattr(Fisher, "step", interrupted)
        assert "after step 2 of 3" in mlcli(*words, status=130).stderr
    with monkeypatch.context() as patched:
        patched.setattr(Model, "hash", "other")
        assert "other weights of its model" in mlcli(*words, "--resume", status=1).stderr
    assert "started with val 0.2" in mlcli(*words, "--resume", "--val", 0.5, status=2).stderr
    for fork in two_processes(*words, "--resume"):
        fork.succeed()
    one, two = (load_file(run / "model.safetensors") for run in (solved, tmp_path / "two"))
    for name, tensor in one.items():
        assert (tensor.float() - two[name].float()).norm() <= 1e-3 * tensor.float().norm(), name


def test_other_identities_to_validate_on_and_a_backbone(data, colors, tmp_path):
    other = identities(tmp_path / "other", "vwxy", seed=1)
    shutil.copy(data / "greek/a/00.png", other / "v/copy.png")
    done = mlcli(
        "siamese-train", data, "-o", tmp_path / "run", "--val", other, "--model", colors, "--steps", 2, "--quiet"
    )
    assert "v/copy.png: the same file is among the training images" in done.stderr
    found = description(tmp_path / "run")
    assert found["architecture"] == "cifarnet" and found["preprocessing"]["channels"] == 3
    assert found["calibration"]["pairs"]["same"] == 4 * 15
    kernels = load_file(tmp_path / "run/model.safetensors")["conv1.conv.weight"]
    own = load_file(colors / "model.safetensors")["conv1.conv.weight"]
    assert (kernels - own).norm() < 0.1 * own.norm()  # it starts from there


@pytest.mark.parametrize("options", [["--steps", 1], ["--loss", "fisher", "--layer", "conv1", "--size", 64]])
def test_the_packaged_network_serves(options, data, tmp_path):
    """Of images of 16 pixels it sees 64, normalized as it learned."""
    mlcli("siamese-train", data, "-o", tmp_path / "run", "--model", "efficientnet_lite0", "--views", 1, *options)
    found = description(tmp_path / "run")
    assert found["architecture"] == "efficientnet_lite0" and found["preprocessing"]["crop"] == 64
    assert found["preprocessing"]["mean"] == [0.5] * 3
    pair = sorted((data / "greek/a").glob("*.png"))[:2]
    assert 0 <= json.loads(mlcli("siamese-verify", tmp_path / "run", *pair, "--format", "json").stdout)["distance"]


def test_color_anywhere_is_kept_and_other_validation_is_another_run(data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    late = sorted(root.rglob("*.png"))[-8:]  # of two identities, so that one at least is learned from
    for path in late:
        Image.merge("RGB", [Image.open(path).convert("L"), *[Image.new("L", Image.open(path).size)] * 2]).save(path)
    for folder, channels in ((data, 1), (root, 3)):
        run = tmp_path / f"run-{channels}"
        mlcli("siamese-train", folder, "-o", run, *BRIEF, "--steps", 1, "--val", 0.2)
        assert description(run)["preprocessing"]["channels"] == channels
    said = mlcli("siamese-train", root, "-o", run, "--resume", "--val", 0.5, status=2).stderr
    assert "was started with val 0.2" in said


def test_what_is_wrong_with_the_data_is_said_and_the_rest_goes_on(data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    (root / "greek/a/00.png").write_bytes(b"no image")
    shutil.copy(root / "greek/b/00.png", root / "greek/c/again.png")
    Image.new("L", (16, 16)).save(root / "loose.png")
    for number in range(1, 6):
        (root / f"latin/e/0{number}.png").unlink()
    done = mlcli("siamese-train", root, "-o", tmp_path / "run", *BRIEF, "--steps", 1)
    assert "greek/a/00.png" in done.stderr and "1 image in no identity's folder, left out ('loose.png')" in done.stderr
    assert "greek/b/00.png: the same file stands in another class" in done.stderr
    assert "one image alone of latin/e" in done.stderr
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert sum(config["data"][part]["count"] for part in ("training", "validation")) == 60 - 1 - 1 - 5


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["absent"], 1, "no such folder"),
        (["one"], 1, "images of 1 identity; two at least"),
        (["few"], 1, "too few to hold some out"),
        (["few", "--val", "few"], 1, "of 0 identities"),
        (["many", "--val", "2"], 2, "no fraction between 0 and 1"),
        (["many", "--orientations", "3"], 2, "take 1, 4 or 8"),
        (["many", "--orientations", "8", "--flip"], 2, "--orientations 8 another one; take one"),
        (["many", "--weights", "w.safetensors"], 2, "smallnet is trained from scratch"),
        (["many", "--model", "cifarnett"], 2, "did you mean cifarnet"),
        (["absent", "--model", "sobel"], 2, "--model sobel: knows no classes"),  # before DATA is looked at
        (["absent", "--model", "sobel", "--loss", "fisher"], 2, "--model sobel: knows no classes"),
        (["many", "--loss", "fisher", "--steps", "9"], 2, "has no use for --steps"),
        (["many", "--loss", "fisher", "--model", "smallnet"], 2, "is trained from scratch"),
        (["many", "--loss", "fisher", "--layer", "conv9"], 2, "conv9"),
        (["many", "--loss", "fisher", "--layer", "classifier"], 2, "without maps; take a convolutional layer"),
        (["many", "--loss", "fisher", "--margin", "0.3"], 2, "has no use for --margin"),
        (["many", "--loss", "weighted-l1", "--margin", "0.3"], 2, "--margin: is of --loss softmax or triplet or"),
        (["many", "--loss", "weighted-l1", "--softmax-scale", "8"], 2, "--softmax-scale: is of --loss softmax;"),
        (["many", "--loss", "triplet", "--softmax-scale", "8"], 2, "triplet has no use for it"),
        (["many", "--layer", "conv2"], 2, "is of --loss fisher"),
        (["many", "--model", "cifarnet", "--gray"], 2, "--gray: cifarnet takes the channels that it has learned on"),
        (["many", "--model", "timm/test_vit", "--weights", "w.safetensors"], 1, "no such file of weights"),
        (["twice", "--loss", "fisher", "--views", "1"], 1, "do not differ from each other"),
        (["one", "--loss", "fisher"], 1, "images of 1 identity"),
        (["few", "--loss", "fisher"], 1, "too few to hold some out"),
        (["single"], 1, "too few to hold some out"),
    ],
)
def test_mistakes_are_said(arguments, status, message, tmp_path, monkeypatch):
    identities(tmp_path / "one", "a")
    identities(tmp_path / "few", "abc", each=2)
    identities(tmp_path / "many", "abcde", each=2)
    identities(tmp_path / "single", "abcde", each=1)
    for file in identities(tmp_path / "twice", "abcde", each=1).rglob("*.png"):
        Image.open(file).save(file.with_suffix(".bmp"))
    monkeypatch.chdir(tmp_path)
    assert message in mlcli("siamese-train", *arguments, "-o", "run", status=status).stderr
    assert not Path("run").exists() or arguments[0] == "twice"  # found when all were seen

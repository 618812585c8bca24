"""`mlcli pretext` over real files: labels that do not matter, probes, what starts from it, killed and resumed."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from mlcli.methods.learning.supervised import Supervised
from mlcli.models import registry
from tests.cli import mlcli
from tests.killing import killed_and_resumed, killed_at_its_end, two_processes_killed_and_resumed
from tests.tiny import class_folders

LEARNING = ("--epochs", 4, "--batch-size", 12, "--precision", "fp32", "--shift", 1)
SHORT = (*LEARNING, "--model", "smallnet")  # whose steps take less time


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """48 images, light above and dark below."""
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    light = np.linspace(230, 20, 16)[:, None, None]
    for number in range(48):
        pixels = light + random.normal(0, 12, (16, 16, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    labeled = class_folders(root / "labeled", per_class=8)
    done = mlcli("pretext", photos, "-o", root / "run", *LEARNING, "--probe", labeled, "--labels", 12)
    assert "with 12 labels" in done.stderr
    return root / "run"


def test_learns_and_is_probed(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 16 and lines[-1]["accuracy"] >= 0.9
    said = json.loads((finished / "results.json").read_text())
    assert (
        said["labels"] == 12 and said["tested"] == 12 and said["accuracy"] == said["probes"][said["best layer"]] >= 0.7
    )
    assert list(said["probes"]) == ["conv1", "conv2", "conv3", "conv4", "conv5", "features"]
    other = said["best layer of an untrained network"]
    assert said["untrained"] == said["probes of an untrained network"][other]
    assert "best layer" in (finished / "report.html").read_text()


def test_finetune_and_others_go_on_from_it(finished, photos, tmp_path):
    assert registry.load(str(finished)).classes == ("0", "90", "180", "270")
    told = mlcli("classify", photos / "00.png", "--model", finished, "--format", "json", "--top-k", 1)
    assert json.loads(told.stdout)[0]["predictions"][0]["label"] == "0"
    labeled = class_folders(tmp_path / "labeled", per_class=6)
    mlcli("finetune", labeled, "--model", finished, "-o", tmp_path / "run", "--precision", "fp32")
    assert registry.load(str(tmp_path / "run")).classes == ("blue", "green", "red")


def test_done_is_done(finished, photos):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    mlcli("pretext", photos, "-o", finished, "--resume")
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


@pytest.mark.parametrize("report", [None, "of the epochs, without results"])
def test_a_kill_after_the_results_takes_nothing_from_the_report(finished, photos, tmp_path, report, monkeypatch):
    run = tmp_path / finished.name
    shutil.copytree(finished, run)
    (run / "report.html").unlink() if report is None else (run / "report.html").write_text(report)
    killed_at_its_end(run)
    monkeypatch.setattr("mlcli.methods.learning.linear_probe.probe", None)  # nothing is probed again
    mlcli("pretext", photos, "-o", run, "--resume")
    assert (run / "report.html").read_bytes() == (finished / "report.html").read_bytes()


def test_probed_later_and_again(photos, tmp_path):
    labeled, run = class_folders(tmp_path / "labeled", per_class=8), tmp_path / "run"
    mlcli("pretext", photos, "-o", run, *SHORT)
    weights = (run / "model.safetensors").stat().st_mtime_ns
    assert not (run / "results.json").exists()
    for given, labels in ((["--probe", labeled, "--labels", 12], 12), ([], 12), (["--labels", 9], 9)):
        said = mlcli("pretext", photos, "-o", run, "--resume", *given).stderr
        assert f"with {labels} labels" in said
        assert json.loads((run / "results.json").read_text())["labels"] == labels
    config = json.loads((run / "config.json").read_text())
    assert config["options"]["labels"] == 9 and config["data"]["probe"]["count"] == 9
    assert (run / "model.safetensors").stat().st_mtime_ns == weights


def test_a_probe_is_not_tested_on_what_it_learned_from(photos, tmp_path):
    labeled = class_folders(tmp_path / "labeled", per_class=8)
    shutil.copy(labeled / "red/00.png", labeled / "red/again.png")
    shutil.copy(labeled / "red/01.png", labeled / "blue/red.png")
    words = ["pretext", photos, "-o", tmp_path / "run", *SHORT, "--steps", 2, "--probe", labeled, "--labels", 12]
    said = mlcli(*words).stderr
    assert "again.png: the same file as" in said and "the same file stands in another class" in said
    assert json.loads((tmp_path / "run/results.json").read_text())["tested"] == 24 - 1 - 12
    said = mlcli("pretext", photos, "-o", tmp_path / "run", "--resume", "--val", labeled).stderr
    assert said.count("the same file is among the training images") == 12
    assert json.loads((tmp_path / "run/results.json").read_text())["tested"] == 24 - 1 - 12


@pytest.mark.parametrize("task", ["rotation", "jigsaw"])
def test_killed_and_resumed_equals_never_killed(photos, tmp_path, task):
    command = "pretext", photos, "--task", task, "--permutations", 4, *SHORT
    killed_and_resumed(3, 0, tmp_path, *command)
    one, two = (tmp_path / run / "model.safetensors" for run in ("whole", "broken"))
    assert one.read_bytes() == two.read_bytes()


def test_two_processes_killed_and_resumed_agree_with_one(photos, tmp_path):
    command = ["pretext", photos, *SHORT, "--device", "cpu"]
    mlcli(*command, "-o", tmp_path / "one")
    assert 2 <= two_processes_killed_and_resumed(tmp_path / "two", 2, *command, "-o", tmp_path / "two") < 16
    one, two = ((tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("one", "two"))
    losses = [[json.loads(line)["loss"] for line in lines] for lines in (one, two)]
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_interrupted_keeps_what_is_learned(photos, finished, tmp_path, monkeypatch):
    step = Supervised.step

    def interrupted(self, batch, number):
        if number == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number)

    command = ["pretext", photos, "-o", tmp_path / "run", *LEARNING]
    with monkeypatch.context() as patched:
        patched.setattr(Supervised, "step", interrupted)
        assert "after step 7 of 16; all is saved. Resume with: mlcli" in mlcli(*command, status=130).stderr
    mlcli(*command, "--resume")
    one, two = (run / "model.safetensors" for run in (finished, tmp_path / "run"))
    assert one.read_bytes() == two.read_bytes()


def test_labels_are_never_read(finished, photos, tmp_path):
    """The same images under the same names in class folders give the same network."""
    for index, name in enumerate(("b", "a")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted(photos.iterdir())[index::2]:
            (tmp_path / "data" / name / file.name).write_bytes(file.read_bytes())
    paths = sorted((tmp_path / "data").rglob("*.png"), key=lambda path: path.name)
    mlcli("pretext", *paths, "-o", tmp_path / "run", *LEARNING)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_begins_from_known_weights(photos, colors, tmp_path):
    """At a learning rate of nothing the convolutions are the known ones, the first of which is not whitened."""
    words = ["pretext", photos, "-o", tmp_path / "run", "--model", colors, "--pretrained", "--batch-size", 12]
    mlcli(*words, "--steps", 1, "--lr", 0)
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["options"]["pretrained"] and config["options"]["optimizer"] == "sgd"
    assert config["data"]["model"]["hash"] == registry.load(str(colors)).hash
    known, made = (load_file(run / "model.safetensors") for run in (colors, tmp_path / "run"))
    assert all(tensor.equal(known[name]) for name, tensor in made.items() if name.endswith("conv.weight"))
    assert made["classifier.weight"].shape[0] == 4

    words[3] = tmp_path / "tenth"
    mlcli(*words, "--steps", 1)
    rates = [json.loads((tmp_path / run / "config.json").read_text())["options"]["lr"] for run in ("run", "tenth")]
    assert rates == [0, pytest.approx(0.1 * 0.1 * 12 / 256)]
    for options, message in ((["--model", "lenet"], "lenet comes without weights"), (["--gray"], "leave it out")):
        said = mlcli("pretext", photos, "-o", tmp_path / "none", "--pretrained", *options, status=2).stderr
        assert message in said and not (tmp_path / "none").exists()


def test_mistakes_and_bad_images_are_said(photos, tmp_path):
    run = tmp_path / "run"
    assert "--probe" in mlcli("pretext", photos, "-o", run, "--val", photos, status=2).stderr
    labeled = class_folders(tmp_path / "labeled", per_class=2)
    assert "fewer --labels" in mlcli("pretext", photos, "-o", run, "--probe", labeled, status=1).stderr
    assert "no readable image" in mlcli("pretext", tmp_path / "absent.png", "-o", run, status=1).stderr
    assert not run.exists()
    (tmp_path / "bad.png").write_bytes(b"no image")
    done = mlcli("pretext", photos, tmp_path / "bad.png", "-o", run, "--steps", 1, "--batch-size", 8)
    assert "bad.png" in done.stderr
    assert json.loads((run / "config.json").read_text())["data"]["training"]["left_out"] == 1

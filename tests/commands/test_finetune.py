"""`mlcli finetune` over real files: what it says, what it writes, what others open, killed and resumed."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mlcli.methods.learning import configs
from mlcli.methods.learning.finetuning import Features, FineTuning
from mlcli.models import registry
from tests.cli import mlcli
from tests.forks import two_processes
from tests.killing import killed_and_resumed, killed_at_its_end
from tests.tiny import class_folders

QUICK = ("--precision", "fp32", "--copies", 1, "--shift", 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two classes, blue and not, of 8 and 16 images; the model knows three colors."""
    root = tmp_path_factory.mktemp("data")
    for part, seed in (("train", 0), ("val", 1)):
        class_folders(root / "all", per_class=8, seed=seed, noise=30)
        shutil.copytree(root / "all/blue", root / part / "blue")
        for color in ("red", "green"):
            for file in sorted((root / "all" / color).iterdir()):
                (root / part / "other").mkdir(parents=True, exist_ok=True)
                shutil.copy(file, root / part / "other" / f"{color}-{file.name}")
    return root


@pytest.fixture(scope="module")
def finished(data, colors, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    done = mlcli("finetune", data / "train", "--model", colors, "-o", run, *QUICK)
    assert "folds: accuracy" in done.stderr and "last layer alone" not in done.stderr
    return run


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def test_learns_other_classes_and_estimates_by_folds(finished):
    said = results(finished)["folds"]
    assert said["count"] == 24 and said["accuracy"] >= 0.9
    low, high = said["balanced_interval"]
    assert low < said["balanced_accuracy"] and 0.6 < low < high <= 1
    config = json.loads((finished / "config.json").read_text())
    assert config["data"]["training"]["count"] == 24 and config["options"]["freeze"] == "all"
    report = (finished / "report.html").read_text()
    assert "balanced accuracy" in report and "Confusion matrix" in report and "http" not in report


def test_other_commands_open_the_result(finished, data, tmp_path):
    told = mlcli("classify", data / "val", "--evaluate", "--model", finished, "--format", "json", "--precision", "fp32")
    assert json.loads(told.stdout)["accuracy"] >= 0.9
    assert registry.load(str(finished)).classes == ("blue", "other")
    train = data / "train"
    mlcli("neighbors", data / "val/blue/00.png", "--among", train, "--model", finished, "-o", tmp_path / "near.png")
    mlcli("patches", train, "--model", finished, "--layer", "conv1", "--units", 0, "-o", tmp_path / "patches")
    mlcli("maximize", "logit:blue", "--model", finished, "--steps", 2, "-o", tmp_path / "blue.png")
    assert (tmp_path / "blue.png").exists()


def test_the_layers_below_are_those_of_the_model(finished, colors):
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (finished, colors))
    assert {name for name, t in ours.items() if not torch.equal(t, theirs[name])} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_done_is_done_and_other_options_are_refused(finished, data, colors):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    mlcli("finetune", data / "train", "--model", colors, "-o", finished, *QUICK, "--resume")
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before
    refused = mlcli("finetune", data / "train", "-o", finished, "--resume", "--copies", 3, status=2)
    assert "copies 1, the command line says 3" in refused.stderr
    assert "--overwrite" in mlcli("finetune", data / "train", "-o", finished, status=2).stderr


@pytest.mark.parametrize("report", [None, "of the epochs, without results"])
def test_a_kill_after_the_results_takes_nothing_from_the_report(finished, data, colors, tmp_path, report):
    run = tmp_path / "finished"
    shutil.copytree(finished, run)
    (run / "report.html").unlink() if report is None else (run / "report.html").write_text(report)
    killed_at_its_end(run)
    of_the_end = (run / "report.html", run / "config.json")
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file not in of_the_end}
    mlcli("finetune", data / "train", "--model", colors, "-o", run, *QUICK, "--resume")
    assert (run / "report.html").read_bytes() == (finished / "report.html").read_bytes()
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*") if file not in of_the_end} == before


def test_no_image_goes_through_the_network_twice(data, colors, tmp_path, monkeypatch):
    seen = []
    counted = Features.__call__
    monkeypatch.setattr(Features, "__call__", lambda self, images: seen.append(len(images)) or counted(self, images))
    command = ["finetune", data / "train", "--model", colors, "--val", data / "val", "-o", tmp_path / "run", *QUICK]
    mlcli(*command)
    assert sum(seen) == 24 * 2 + 24, "each image and its flipped copy, and those to test on"
    (tmp_path / "run/results.json").unlink()  # as if it had been killed before its end
    mlcli(*command, "--resume")
    assert sum(seen) == 24 * 3
    assert results(tmp_path / "run")["validation"]["accuracy"] >= 0.9


def test_errors_are_drawn_and_listed(data, colors, tmp_path):
    root = shutil.copytree(data / "train", tmp_path / "data")
    for number in range(3):  # images in the wrong folder
        file = class_folders(tmp_path / "new", per_class=3, seed=7, noise=30) / f"red/{number:02d}.png"
        shutil.move(file, root / f"blue/wrong-{number}.png")
    mlcli("finetune", root, "--model", colors, "-o", tmp_path / "run", *QUICK)
    listed = json.loads((tmp_path / "run/misclassified.png.json").read_text())["results"]
    assert len(listed) == results(tmp_path / "run")["misclassified"] >= 3
    assert {Path(e["image"]).name for e in listed if e["true"] == "blue"} >= {f"wrong-{n}.png" for n in range(3)}
    assert all(e["true"] != e["predicted"] and 0.5 <= e["probability"] <= 1 for e in listed)
    report = (tmp_path / "run/report.html").read_text()
    assert report.count('class="tile"') == len(listed) and "wrong-0.png" in report


def test_bad_data_is_named_and_the_rest_goes_on(data, colors, tmp_path):
    root = shutil.copytree(data / "train", tmp_path / "data")
    (root / "blue/00.png").write_bytes(b"no image")
    shutil.copy(root / "blue/01.png", root / "blue/copy.png")
    shutil.copy(root / "blue/02.png", root / "other/also.png")
    (root / "broken").mkdir()
    (root / "broken/00.png").write_bytes(b"")
    (root / "rare").mkdir()
    shutil.copy(class_folders(tmp_path / "new", per_class=1, seed=9, noise=30) / "red/00.png", root / "rare/00.png")
    done = mlcli("finetune", root, "--model", colors, "-o", tmp_path / "run", *QUICK)
    for words in (
        "blue/00.png",
        "copy.png: the same file as",
        "blue/02.png: the same file stands in another class",
        "no image of 'broken' can be used; it is left out",
        "one image of 'rare'",
    ):
        assert words in done.stderr
    assert results(tmp_path / "run")["folds"]["count"] == 24 - 2
    assert registry.load(str(tmp_path / "run")).classes == ("blue", "other", "rare")


def test_mistakes_are_said(data, colors, tmp_path):
    arguments = "--model", colors, "-o", tmp_path / "run"
    assert "--val" in mlcli("finetune", data / "train", *arguments, "--baseline", status=2).stderr
    assert "no layer" in mlcli("finetune", data / "train", *arguments, "--freeze", "conv8", status=2).stderr
    only = tmp_path / "only"
    shutil.copytree(data / "train/blue", only / "blue")
    assert "1 class" in mlcli("finetune", only, *arguments, status=1).stderr
    assert not (tmp_path / "run").exists()


def with_a_single_one(data: Path, root: Path) -> Path:
    """The training data and a class of one image."""
    shutil.copytree(data / "train", root)
    (root / "rare").mkdir()
    shutil.copy(class_folders(root.parent / "new", per_class=1, seed=9, noise=30) / "red/00.png", root / "rare/00.png")
    return root


def test_a_class_of_one_image_is_named_whatever_is_tested_on(data, colors, tmp_path):
    root = with_a_single_one(data, tmp_path / "data")
    for index in range(6):
        (root / f"blue/{index:02d}.png").unlink()  # two are left: one is held out, and the class is no single one
    command = "finetune", root, "--model", colors, *QUICK
    done = mlcli(*command, "--val", 0.3, "-o", tmp_path / "fraction")
    assert "one image of 'rare', which is learned and cannot be tested" in done.stderr
    assert done.stderr.count("one image of") == 1
    done = mlcli(*command, "--val", data / "val", "-o", tmp_path / "folder")
    assert "one image of 'rare', to learn from" in done.stderr


def test_of_many_images_a_part_is_held_out_and_that_is_said(data, colors, tmp_path, monkeypatch):
    monkeypatch.setattr("mlcli.methods.learning.configs.SCARCE", 20)
    root = with_a_single_one(data, tmp_path / "data")
    done = mlcli("finetune", root, "--model", colors, *QUICK, "--folds", 4, "-o", tmp_path / "run")
    assert "held out to test on, as by --val: 6 of 25 images" in done.stderr
    assert "one image of 'rare', which is learned and cannot be tested" in done.stderr
    assert results(tmp_path / "run")["validation"]["count"] == 6


def test_classes_of_one_image_leave_nothing_to_hold_out(data, colors, tmp_path, monkeypatch):
    root = class_folders(tmp_path / "data", per_class=1, noise=30)
    command = "finetune", root, "--model", colors, *QUICK, "-o", tmp_path / "run"
    refused = mlcli(*command, "--val", 0.3, status=1).stderr
    assert "--val 0.3 can hold nothing out, for each class has one image" in refused and "readable" not in refused
    monkeypatch.setattr("mlcli.methods.learning.configs.SCARCE", 2)
    done = mlcli(*command)
    assert done.stderr.count("which is learned and cannot be tested") == 3 and "held out" not in done.stderr


DEEP = ("--freeze", "conv4", "--epochs", 3, "--batch-size", 8, *QUICK)


def test_deeper_layers_killed_and_resumed_equal_never_killed(data, colors, tmp_path):
    command = "finetune", data / "train", "--model", colors, "--val", data / "val", *DEEP
    killed_and_resumed(4, 0, tmp_path, *command)
    for name in ("model.safetensors", "results.json", "misclassified.png"):
        one, two = (tmp_path / run / name for run in ("whole", "broken"))
        assert one.exists() == two.exists() and (not one.exists() or one.read_bytes() == two.read_bytes()), name
    said = results(tmp_path / "whole")
    assert said["validation"]["accuracy"] >= 0.9 and said["last layer alone"]["count"] == 24
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", colors))
    changed = {name.split(".")[0] for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}
    assert changed == {"conv5", "classifier"}


def test_without_images_to_test_on_the_tuned_network_is_not_said_to_be_tested(data, colors, tmp_path):
    command = "finetune", data / "train", "--model", colors, *QUICK, "--freeze", "conv4", "--epochs", 1
    done = mlcli(*command, "-o", tmp_path / "run")
    note = "--freeze conv4: folds test the last layer alone; --val tests the tuned network"
    assert note in done.stderr and results(tmp_path / "run")["note"] == note
    assert "folds, last layer alone" in results(tmp_path / "run")
    assert note in (tmp_path / "run/report.html").read_text()


def test_interrupted_while_deeper_layers_learn(data, colors, tmp_path, monkeypatch):
    step = FineTuning.step

    def interrupted(self, batch, number):
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, number)

    command = ["finetune", data / "train", "--model", colors, "--val", data / "val", *DEEP, "-o"]
    with monkeypatch.context() as patched:
        patched.setattr(FineTuning, "step", interrupted)
        assert "all is saved. Resume with: mlcli" in mlcli(*command, tmp_path / "broken", status=130).stderr
    mlcli(*command, tmp_path / "broken", "--resume")
    mlcli(*command, tmp_path / "whole")
    for name in ("model.safetensors", "results.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_network_from_scratch_beside_it(data, colors, tmp_path, monkeypatch):
    supervised = configs.supervised
    monkeypatch.setattr(configs, "supervised", lambda *words: replace(supervised(*words), epochs=1))
    run = tmp_path / "run"
    command = ["finetune", data / "train", "--model", colors, "--val", data / "val", "--baseline", "-o", run, *QUICK]
    mlcli(*command)
    said = results(run)
    assert said["baseline"]["count"] == said["validation"]["count"] == 24
    scratch, kept = (registry.load(str(folder)) for folder in (run / "baseline", run))
    assert scratch.classes == ("blue", "other") and scratch.preprocessing == kept.preprocessing
    assert not torch.equal(scratch.network.conv1.conv.weight, kept.network.conv1.conv.weight)
    mlcli(*command[: -len(QUICK) - 3], "-o", run, *QUICK, "--overwrite")
    assert not (run / "baseline/model.safetensors").exists(), "what is overwritten leaves nothing behind"


def test_two_processes_agree_with_one(data, colors, tmp_path):
    """The folds of the last layer, and a tuned stage."""
    words = ["finetune", data / "train", "--model", colors, "--device", "cpu", *DEEP, "-o"]
    mlcli(*words, tmp_path / "one")
    for fork in two_processes(*words, tmp_path / "two"):
        fork.succeed()
    one, two = (results(tmp_path / name)["folds, last layer alone"] for name in ("one", "two"))
    assert two["confusion"] == one["confusion"]
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    start = load_file(colors / "model.safetensors")["conv5.conv.weight"]
    assert (ours["conv5.conv.weight"] - start).abs().max() > 1e-4, "the stage is tuned"
    assert all(torch.allclose(tensor, theirs[name], atol=1e-6) for name, tensor in ours.items())

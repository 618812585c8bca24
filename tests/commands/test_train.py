"""`mlcli train` over real files, killed and resumed, and as processes that a user starts."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from mlcli.models import registry
from mlcli.runtime import device
from tests.cli import ENVIRONMENT, mlcli
from tests.forks import wait_for_state
from tests.killing import killed_and_resumed, two_processes_killed_and_resumed
from tests.tiny import class_folders

NETWORK = ("--model", "smallnet", "--optimizer", "muon", "--lr", 0.1)  # a fifth of the time of cifarnet


@pytest.fixture(scope="module", autouse=True)
def as_many_threads_as_in_a_process_of_its_own():
    """Sums in another order differ in their last bits."""
    with device.one_thread():
        yield


def train(*arguments, status=0):
    return mlcli("train", *arguments, status=status)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    class_folders(root / "train", per_class=20)
    class_folders(root / "val", per_class=8, seed=1)
    return root


@pytest.fixture(scope="module")
def short(data) -> list:
    """Arguments of a run of 12 steps on 48 images, fp32, which every machine has."""
    return [
        data / "train",
        "--val",
        0.2,
        "--epochs",
        3,
        "--batch-size",
        12,
        "--precision",
        "fp32",
        "--seed",
        5,
        *NETWORK,
    ]


@pytest.fixture(scope="module")
def finished(short, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(*short, "-o", run)
    return run


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_learns_and_the_run_folder_is_whole(finished):
    last = metrics(finished)[-1]
    assert last["step"] == 12 and last["val_accuracy"] >= 0.9
    config = json.loads((finished / "config.json").read_text())
    assert config["options"]["batch_size"] == 12 and config["options"]["seed"] == 5
    training = config["data"]["training"]
    assert training["count"] == 48 and training["classes"] == 3 and training["size"] == 16
    assert 0 <= training["value_range"][0] < training["value_range"][1] <= 255
    report = (finished / "report.html").read_text()
    assert "val_accuracy" in report and "<svg" in report and "http" not in report, "one page that opens offline"
    evaluation = json.loads((finished / "results.json").read_text())["validation"]
    assert evaluation["accuracy"] == pytest.approx(last["val_accuracy"]) and evaluation["count"] == 12
    assert "Confusion matrix" in report and "balanced accuracy" in report


def test_the_result_is_a_model_that_other_commands_open(finished, data):
    model = registry.load(str(finished))
    assert model.classes == ("blue", "green", "red") and model.preprocessing.crop == 16
    words = ["classify", data / "val", "--evaluate", "--model", finished, "--format", "json"]
    result = json.loads(mlcli(*words).stdout)
    assert result["count"] == 24 and result["accuracy"] >= 0.9


def test_the_same_command_writes_the_same_bytes(short, finished, tmp_path):
    train(*short, "-o", tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_killed_five_times_and_resumed_equals_never_killed(short, finished, tmp_path):
    steps = killed_and_resumed(5, 0, tmp_path, "train", *short)
    assert len(set(steps)) > 2, "the kills fell into the training"
    run = tmp_path / "broken"
    assert (run / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    timeless = [[{k: v for k, v in line.items() if k != "seconds"} for line in metrics(r)] for r in (run, finished)]
    assert timeless[0] == timeless[1]


def test_a_signal_saves_and_says_how_to_resume(short, finished, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mlcli.cli", "train", *map(str, short), "-o", str(run), "--save-every", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    wait_for_state(run, 3, lambda: process.poll() is None)
    process.send_signal(signal.SIGTERM)
    message = process.stderr.read()
    assert process.wait() == 143
    assert "Traceback" not in message and "Resume with: " in message and "--resume" in message
    train(*short, "-o", run, "--resume")
    assert (run / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_two_processes_of_torchrun_agree_with_one(short, tmp_path):
    """Under SGD: Muon's iteration may run in bfloat16, which makes more of the rounding of a sum."""
    alone, run = tmp_path / "alone", tmp_path / "run"
    words = ["train", *short, "--optimizer", "sgd", "--device", "cpu", "-o"]
    mlcli(*words, alone)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "mlcli.cli"]
    done = subprocess.run([*launch, *map(str, [*words, run])], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr

    for ours, theirs in zip(metrics(run), metrics(alone), strict=True):
        assert ours["step"] == theirs["step"] and ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3, abs=1e-4)
    one, two = (load_file(folder / "model.safetensors") for folder in (alone, run))
    for name, tensor in one.items():
        assert (tensor.float() - two[name].float()).norm() <= 1e-2 * tensor.float().norm() + 1e-3, name


def test_two_processes_killed_and_resumed_agree_with_one(short, tmp_path):
    alone, run = tmp_path / "alone", tmp_path / "run"
    words = ["train", *short, "--optimizer", "sgd", "--device", "cpu", "-o"]
    mlcli(*words, alone)
    assert 3 <= two_processes_killed_and_resumed(run, 3, *words, run) < 12
    assert [line["loss"] for line in metrics(run)] == pytest.approx(
        [line["loss"] for line in metrics(alone)], rel=1e-3, abs=1e-4
    )


def test_resume_keeps_the_options_and_refuses_others(short, finished, data):
    before = (finished / "model.safetensors").read_bytes()
    train(short[0], "-o", finished, "--resume")  # no option repeated: those of the run are in force
    assert (finished / "model.safetensors").read_bytes() == before
    refused = train(*short, "-o", finished, "--resume", "--lr", 0.5, status=2)
    assert "lr 0." in refused.stderr
    changed = train(data / "val", "-o", finished, "--resume", status=1)
    assert "have changed since the run began" in changed.stderr


def test_resume_refuses_other_images_of_the_same_names_and_sizes(tmp_path):
    """Of formats without compression every file is as long as the others: two classes are exchanged."""
    data, run = tmp_path / "data", tmp_path / "run"
    for name, level in (("dark", 20), ("bright", 220)):
        (data / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (16, 16), (level + number, level, level)).save(data / name / f"{number}.bmp")
    command = (data, "--steps", 2, "-o", run)
    train(*command)
    (data / "dark").rename(data / "other")
    (data / "bright").rename(data / "dark")
    (data / "other").rename(data / "bright")
    refused = train(*command, "--resume", status=1)
    assert "the training data have changed" in refused.stderr


def test_an_existing_run_is_not_overwritten(short, finished):
    before = (finished / "config.json").read_bytes()
    refused = train(*short, "-o", finished, status=2)
    assert "--resume" in refused.stderr and "--overwrite" in refused.stderr
    assert (finished / "config.json").read_bytes() == before


def test_broken_images_are_named_and_the_rest_trains(tmp_path):
    root = class_folders(tmp_path / "data", per_class=6)
    (root / "red/00.png").write_bytes(b"no image")
    (root / "blue/05.png").write_bytes((root / "blue/04.png").read_bytes()[:100])
    done = train(root, "-o", tmp_path / "run", "--epochs", 1, "--batch-size", 8)
    assert "red/00.png" in done.stderr and "blue/05.png" in done.stderr
    assert f"{tmp_path / 'run'}: 2 steps, 2 an epoch" in done.stderr  # at the start, before any line of progress
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["training"]["count"] == 16


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["absent"], "absent: no such"),
        (["data/red"], "no class folders"),
        (["data", "--model", "cifarnett"], "did you mean cifarnet"),
        (["data", "--val", "1.5"], "--val 1.5"),
        (["data", "--size", "8"], "at least 16"),
        (["data", "--device", "tpu"], "--device tpu"),
        (["data", "--model", "alexnet", "--size", "32"], "does not suit alexnet"),
    ],
)
def test_mistakes_are_said(arguments, message, tmp_path, monkeypatch):
    class_folders(tmp_path / "data", per_class=2)
    monkeypatch.chdir(tmp_path)
    assert message in train(*arguments, "-o", "run", status=(1, 2)).stderr
    assert not (tmp_path / "run").exists()


def test_one_class_is_not_enough(tmp_path):
    class_folders(tmp_path / "data", per_class=2)
    train(tmp_path / "data", "-o", tmp_path / "run", "--steps", 1)
    for name in ("red", "green"):
        for file in (tmp_path / "data" / name).iterdir():
            file.unlink()
        (tmp_path / "data" / name).rmdir()
    done = train(tmp_path / "data", "-o", tmp_path / "other", status=1)
    assert "1 class" in done.stderr


def test_gray_images_and_torchvision_architectures(tmp_path):
    root = class_folders(tmp_path / "data", per_class=4)
    train(root, "-o", tmp_path / "gray", "--gray", "--steps", 2, "--no-flip", "--shift", 0, "--momentum", 0)
    assert registry.load(str(tmp_path / "gray")).preprocessing.channels == 1
    train(root, "-o", tmp_path / "squeeze", "--model", "squeezenet1_1", "--size", 32, "--steps", 1, "--batch-size", 4)
    assert registry.load(str(tmp_path / "squeeze")).architecture == "squeezenet1_1"

"""Every command on a GPU: two equal runs write the same bytes, and what they write is what a CPU writes, nearly.

Skipped without a GPU. Run it by itself: `pytest tests/test_cuda.py`; other tests do not see the GPU.
"""

import hashlib
import json
import signal
from pathlib import Path
from unittest import mock

import pytest
import torch
import typer
from PIL import Image, ImageChops, ImageStat
from safetensors.torch import load_file

import mlcli as mlcli_package
from mlcli import cli
from mlcli.commands import COMMANDS
from mlcli.errors import Interrupted, MlcliError, UsageError
from mlcli.methods.learning.supervised import Supervised
from mlcli.runtime.device import choose_device
from tests.cli import mlcli
from tests.small_commands import SMALL, make

SAMPLES = Path(__file__).parents[1] / "samples" / "photos"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


PROGRAM = typer.main.get_command(cli.build())


def options_of(command: str) -> set[str]:
    return {option.name for option in PROGRAM.commands[command].params}


TIMES = ("benchmark",)  # whose result is how long something took
ON_A_DEVICE = [
    command.name
    for command in COMMANDS
    if command.name in SMALL and command.name not in TIMES and "device" in options_of(command.name)
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("files"))


def run(command: str, files: Path, folder: Path, *options: str) -> dict[str, Path]:
    """What a run of the small command wrote under a new folder: path in it to file."""
    folder.mkdir()
    small = SMALL[command]
    line = small.line(command, files, folder / f"out{small.ending}")
    if "precision" in options_of(command) and "--precision" not in line:
        options = (*options, "--precision", "fp32")
    done = mlcli(*line, *options)
    (folder / "stdout").write_text(done.stdout)
    found = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.parent.name != "state")
    return {str(file.relative_to(folder)): file for file in found}


def comparable(file: Path) -> object:
    """What two equal runs have in common of a file: its bytes, but no times and paths."""
    if file.suffix == ".jsonl":
        lines = map(json.loads, file.read_text("utf-8").splitlines())
        return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines]
    return digest(file) if file.suffix in (".png", ".safetensors") else None


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("command", ON_A_DEVICE)
def test_two_equal_runs_write_the_same_bytes(command, files, tmp_path):
    first, second = (run(command, files, tmp_path / name, "--device", "cuda") for name in "ab")
    assert first.keys() == second.keys()
    assert [name for name in first if comparable(first[name]) != comparable(second[name])] == []


@pytest.mark.parametrize("command", ON_A_DEVICE)
def test_the_cpu_writes_nearly_the_same(command, files, tmp_path):
    on_cuda, on_cpu = (run(command, files, tmp_path / device, "--device", device) for device in ("cuda", "cpu"))
    assert on_cuda.keys() == on_cpu.keys()
    differences = {}
    for name, file in on_cuda.items():
        if file.suffix == ".png":
            pair = [Image.open(each).convert("RGB") for each in (file, on_cpu[name])]
            differences[name] = max(ImageStat.Stat(ImageChops.difference(*pair)).mean) / 255
        elif file.name == "model.safetensors":
            ours, theirs = load_file(file), load_file(on_cpu[name])
            floats = [key for key in ours if ours[key].is_floating_point()]
            apart = sum((ours[key].double() - theirs[key].double()).square().sum().item() for key in floats)
            size = sum(theirs[key].double().square().sum().item() for key in floats)
            differences[name] = (apart / max(size, 1e-12)) ** 0.5
    assert {name: value for name, value in differences.items() if not value < 0.02} == {}


def test_a_resumed_training_equals_one_that_never_stopped(files, tmp_path):
    words = ["train", files / "classes", "--batch-size", "6", "--device", "cuda", "--save-every", "0", "--epochs", "4"]
    mlcli(*words, "-o", tmp_path / "whole")
    step = Supervised.step

    def broken(self, batch, number):
        if number == 5:
            raise MlcliError("a power failure")
        return step(self, batch, number)

    with mock.patch.object(Supervised, "step", broken):
        mlcli(*words, "-o", tmp_path / "parts", status=1)
    mlcli(*words, "-o", tmp_path / "parts", "--resume")
    assert digest(tmp_path / "whole" / "model.safetensors") == digest(tmp_path / "parts" / "model.safetensors")


@pytest.mark.parametrize("precision, apart", [("fp32", 1e-4), ("bf16", 0.05), ("fp16", 0.005)])
def test_each_precision_classifies_photographs_as_the_cpu_does(precision, apart):
    photos = sorted(SAMPLES.glob("*.jpg"))

    def answers(*options):
        said = json.loads(mlcli("classify", *photos, "--format", "json", "--top-k", "1000", *options).stdout)
        return [{each["label"]: each["probability"] for each in one["predictions"]} for one in said]

    ours = answers("--device", "cuda", "--precision", precision)
    theirs = answers("--device", "cpu", "--precision", "fp32")
    assert max(abs(a[label] - b[label]) for a, b in zip(ours, theirs, strict=True) for label in b) < apart


@pytest.mark.parametrize("options", [{"octaves": 2, "size": 64}, {"init": SAMPLES / "cat.jpg", "size": 48}])
def test_images_that_grow_stay_on_the_device(options):
    """The parametrization of each size is made of the values of the one before."""
    brief = {"model": "cifarnet", "steps": 4, "precision": "fp32", **options}
    ours, theirs = (mlcli_package.maximize("logit:cat", device=device, **brief) for device in ("cuda", "cpu"))
    assert max(ImageStat.Stat(ImageChops.difference(ours.image, theirs.image)).mean) < 5


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_painting_that_is_resumed_equals_one_that_never_stopped(optimizer, tmp_path, monkeypatch):
    brief = {"style": SAMPLES / "brick.jpg", "scales": "32,48", "steps": "4", "precision": "fp32", "device": "cuda"}
    brief |= {"optimizer": optimizer, "save_every": 0}
    (whole,) = mlcli_package.stylize(SAMPLES / "cat.jpg", output=tmp_path / "whole.png", **brief).images

    def interrupt(step):
        if step.done == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        mlcli_package.stylize(SAMPLES / "cat.jpg", output=tmp_path / "parts.png", on_progress=interrupt, **brief)
    (parts,) = mlcli_package.stylize(SAMPLES / "cat.jpg", output=tmp_path / "parts.png", resume=True, **brief).images
    assert parts.image.tobytes() == whole.image.tobytes()


def test_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
    with pytest.raises(UsageError, match="--device auto"):
        choose_device("auto")

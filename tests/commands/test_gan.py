"""`mlcli gan` and `mlcli sample` over real files: gray and color, classes, killed and resumed, two processes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from mlcli.methods.generation import fid_kid
from mlcli.runtime import device as runtime
from tests.cli import mlcli
from tests.forks import two_processes
from tests.killing import killed_at
from tests.tiny import COLORS, class_folders

SMALL = ["--filters", 4, "--latent", 8, "--batch-size", 12, "--precision", "fp32"]
BRIEF = [*SMALL, "--steps", 80, "--seed", 5, "--evaluate-every", 40, "--compared", 0]


@pytest.fixture(scope="module", autouse=True)
def as_many_threads_as_in_a_process_of_its_own():
    """Sums in another order differ in their last bits."""
    with runtime.one_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return class_folders(tmp_path_factory.mktemp("data"), per_class=12, noise=20)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """A conditional run long enough to learn three colors."""
    run = tmp_path_factory.mktemp("runs") / "colors"
    rates = ["--lr", 2e-3, "--lr-discriminator", 4e-3, "--beta1", 0, "--beta2", 0.9, "--ema", 0.9]
    more = ["--steps", 240, "--evaluate-every", 120, "--compared", 36, "--filters", 8, "--loss", "least-squares"]
    mlcli("gan", data, "--conditional", "-o", run, *SMALL, *rates, *more)
    return run


@pytest.fixture(scope="module")
def brief(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "brief"
    mlcli("gan", data, "-o", run, *BRIEF)
    return run


def metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image).astype(float)


def nearest_color(image: np.ndarray) -> str:
    mean = image.mean((0, 1))
    return min(COLORS, key=lambda name: np.linalg.norm(mean - COLORS[name]))


def test_learns_colors_and_the_report_says_how_far_it_is_from_them(finished):
    measured = [line for line in metrics(finished) if "frechet" in line]
    assert [line["step"] for line in measured] == [120, 240]
    assert measured[1]["frechet"] < measured[0]["frechet"] and measured[1]["kernel"] < measured[0]["kernel"]
    report = (finished / "report.html").read_text()
    assert "cifarnet, features" in report and "frechet" in report and "Samples, step 240" in report
    assert json.loads((finished / "config.json").read_text())["data"]["distances"]["count"] == 36


def test_samples_are_of_their_class(finished, tmp_path):
    mlcli("sample", finished, "-n", 30, "-o", tmp_path / "single")
    for name in COLORS:
        files = sorted((tmp_path / "single" / name).iterdir())
        assert len(files) == 10
        for file in files:
            assert pixels(file).shape == (16, 16, 3)
            assert nearest_color(pixels(file)) == name, file


def test_a_grid_has_a_row_for_each_class(finished, tmp_path):
    mlcli("sample", finished, "-n", 12, "-o", tmp_path / "grid.png")
    grid = pixels(tmp_path / "grid.png")
    height = grid.shape[0] / 3
    for row, name in enumerate(COLORS):
        middle = grid[round(row * height) + 10 : round(row * height) + 50, 10:50]
        assert nearest_color(middle) == name
    made = json.loads((tmp_path / "grid.png.json").read_text())
    assert made["options"]["number"] == 12 and made["options"]["columns"] == 4 and len(made["model_hash"]) == 64
    mlcli("sample", finished, "-n", 12, "-o", tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "grid.png").read_bytes()
    mlcli("sample", finished, "-n", 12, "-o", tmp_path / "other.png", "--seed", 1)
    assert (tmp_path / "other.png").read_bytes() != (tmp_path / "grid.png").read_bytes()


def test_one_class_in_rows_that_change_little_by_little(finished, tmp_path):
    mlcli("sample", finished, "--class", "green", "-n", 8, "--interpolate", "-o", tmp_path / "way")
    files = sorted((tmp_path / "way/green").iterdir())
    assert len(files) == 8 == len(list((tmp_path / "way").rglob("*.png")))
    way = np.stack([pixels(file) for file in files])
    steps, whole = np.abs(np.diff(way, axis=0)).mean((1, 2, 3)), np.abs(way[-1] - way[0]).mean()
    assert whole > 0.5 and steps.max() < whole


def test_gray_images_without_classes(data, tmp_path):
    out = mlcli("gan", data / "red", data / "blue", "-o", tmp_path / "run", *BRIEF, "--gray", "--size", 28)
    assert "done" in out.stderr
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["training"]["count"] == 24
    mlcli("sample", tmp_path / "run", "-n", 3, "-o", tmp_path / "single", "--truncation", 0.5)
    files = sorted((tmp_path / "single").iterdir())
    assert [file.name for file in files] == ["0.png", "1.png", "2.png"]
    assert all(pixels(file).shape == (28, 28) for file in files)
    mlcli("sample", tmp_path / "run", "-n", 3, "-o", tmp_path / "single", status=2)


def test_the_same_command_writes_the_same_bytes(data, brief, tmp_path):
    mlcli("gan", data, "-o", tmp_path / "again", *BRIEF)
    assert (tmp_path / "again/model.safetensors").read_bytes() == (brief / "model.safetensors").read_bytes()


def test_killed_and_resumed_equals_never_killed(data, brief, tmp_path):
    run = tmp_path / "run"
    for step in (3, 43):
        assert step <= killed_at(run, step, "gan", data, "-o", run, *BRIEF, "--resume") < 80
    mlcli("gan", data, "-o", run, *BRIEF, "--resume")
    assert (run / "model.safetensors").read_bytes() == (brief / "model.safetensors").read_bytes()
    assert metrics(run) == metrics(brief)
    for file in (brief / "samples").iterdir():
        assert (run / "samples" / file.name).read_bytes() == file.read_bytes()


def test_two_processes_agree_with_one(data, tmp_path):
    """Under a loss with a gradient for the last bias from the start: Adam makes whole steps of the rounding of none."""
    run, alone = tmp_path / "run", tmp_path / "alone"
    words = ["gan", data, *BRIEF, "--loss", "least-squares", "--device", "cpu"]
    mlcli(*words, "-o", alone)
    for fork in two_processes(*words, "-o", run):
        fork.succeed()
    for ours, theirs in zip(metrics(run), metrics(alone), strict=True):
        for name in ("discriminator", "generator"):  # not how often it is right: answers near 0 change sides
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-3)
    one, two = (load_file(folder / "model.safetensors") for folder in (alone, run))
    for name, tensor in one.items():
        assert (tensor.float() - two[name].float()).norm() <= 1e-2 * tensor.float().norm() + 1e-3, name


def test_a_finished_run_is_left_alone_and_other_options_are_refused(data, brief):
    before = {file: file.stat().st_mtime_ns for file in brief.rglob("*")}
    mlcli("gan", data, "-o", brief, "--resume")
    assert {file: file.stat().st_mtime_ns for file in brief.rglob("*")} == before
    assert "loss hinge" in mlcli("gan", data, "-o", brief, "--resume", "--loss", "wasserstein", status=2).stderr
    assert "have changed" in mlcli("gan", data / "red", "-o", brief, "--resume", status=1).stderr
    assert "holds a run already" in mlcli("gan", data, "-o", brief, status=2).stderr


def test_broken_images_are_named_and_the_rest_trains(tmp_path):
    root = class_folders(tmp_path / "data", per_class=6)
    (root / "red/00.png").write_bytes(b"no image")
    done = mlcli("gan", root, "-o", tmp_path / "run", *SMALL, "--steps", 1, "--loss", "wasserstein", "--compared", 4)
    assert "red/00.png" in done.stderr
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["data"]["training"]["count"] == 17 and config["options"]["spectral_norm"] is False


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["absent", "--conditional"], 1, "no such folder"),
        (["data/red", "--conditional"], 1, "no class folders"),
        (["data/red", "data/blue", "--conditional"], 2, "one folder of class folders"),
        (["empty"], 1, "no images there"),
        (["data", "--batch-size", "64"], 1, "smaller --batch-size"),
        (["data", "--model", "cifarnett"], 2, "did you mean cifarnet"),
    ],
)
def test_mistakes_are_said(arguments, status, message, tmp_path, monkeypatch):
    class_folders(tmp_path / "data", per_class=2)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert message in mlcli("gan", *arguments, "-o", "run", status=status).stderr
    assert not Path("run").exists()


def test_what_is_no_generator_is_refused(colors, finished, tmp_path):
    assert "not a generator" in mlcli("sample", colors, "-o", tmp_path / "out.png", status=1).stderr
    assert "no class of" in mlcli("sample", finished, "--class", "rde", "-o", tmp_path / "out.png", status=2).stderr
    assert "not a classifier" in mlcli("filters", "--model", finished, "-o", tmp_path / "out.png", status=1).stderr
    (tmp_path / "out.png").write_bytes(b"mine")
    assert "--overwrite" in mlcli("sample", finished, "-o", tmp_path / "out.png", status=2).stderr
    assert (tmp_path / "out.png").read_bytes() == b"mine"


def test_distances_are_measured_in_fp32_whatever_the_training_takes(data, tmp_path, monkeypatch):
    seen, begin = [], fid_kid.Features.__init__

    def watched(self, model, runtime):
        seen.append(runtime.precision)
        begin(self, model, runtime)

    monkeypatch.setattr(fid_kid.Features, "__init__", watched)
    mlcli("gan", data, "-o", tmp_path / "run", *SMALL, "--precision", "bf16", "--steps", 1, "--compared", 12)
    assert seen == ["fp32"]

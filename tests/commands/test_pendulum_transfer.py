"""`mlcli pendulum-transfer`"""

import csv
import io
import json

import pytest
from PIL import Image

import mlcli as package
from tests import quick_charts
from tests.cli import mlcli

LARGE = ("--mass", 8, "--length", 4)
BRIEF = ("--seeds", 2, "--episodes", 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for task in ("swing-up", "balance"):
        mlcli("pendulum-train", "-o", folder / task, "--task", task, "--method", "model-based", "--episodes", 1)
    mlcli("pendulum-train", "-o", folder / "sac", "--episodes", 1, "--hidden", 4, "--batch-size", 4)
    return folder


def rows(folder):
    return {row["name"]: row for row in json.loads((folder / "transfer.json").read_text())["table"]}


def test_on_a_similar_pendulum_the_scaled_policy_is_as_good(run, tmp_path):
    with quick_charts.drawn():
        done = mlcli("pendulum-transfer", run / "swing-up", *LARGE, *BRIEF, "-o", tmp_path / "large")
    found = rows(tmp_path / "large")
    assert list(found) == ["small", "naive", "scaled", "optimum"]
    assert found["scaled"]["return"]["runs"] == found["small"]["return"]["runs"]
    assert found["naive"]["return"]["mean"] < -1000 and found["scaled"]["return"]["interval"] is not None
    assert "max torque / (m g l)" in done.stdout and done.stdout.count("equal") == 4
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == [
        "animation.gif",
        "model.safetensors",
        "report.html",
        "transfer.json",
    ]
    small, large = package.load_policy(run / "swing-up"), package.load_policy(tmp_path / "large")
    assert large([0.6, 0.8, -1.0]) == 32 * small([0.6, 0.8, -2.0])
    with Image.open(tmp_path / "large" / "animation.gif") as animation:
        assert animation.n_frames > 100 and animation.width == 3 * 200
    page = (tmp_path / "large" / "report.html").read_text()
    assert "data:image/gif" in page and "the pendulums are similar, and the scaled policy is exact" in page


def test_identified_and_finetuned_it_comes_near_the_optimum(run, tmp_path):
    words = ("--max-torque", 96, "--identify", "--finetune", 1, "--format", "csv")
    done = mlcli("pendulum-transfer", run / "swing-up", *LARGE, *BRIEF, *words, "-o", tmp_path / "large")
    lines = {line["policy"]: line for line in csv.DictReader(io.StringIO(done.stdout))}
    assert list(lines) == [
        "small", "naive", "scaled", "scaled, identified", "fine-tuned, 1", "from scratch, 1", "optimum"
    ]  # fmt: skip
    assert float(lines["scaled, identified"]["mean"]) == pytest.approx(float(lines["scaled"]["mean"]), rel=1e-3)
    assert float(lines["fine-tuned, 1"]["gap_closed"]) > 0.95 and lines["fine-tuned, 1"]["episodes"] == "2"
    assert float(lines["fine-tuned, 1"]["return_while_learning"]) > float(
        lines["from scratch, 1"]["return_while_learning"]
    )
    record = json.loads((tmp_path / "large" / "transfer.json").read_text())
    assert [each["mass"] for each in record["identified"]] == pytest.approx([8, 8], rel=1e-6)
    assert not record["similar"] and record["groups"][0]["ratio"] == pytest.approx(1.5)
    assert record["scaling"]["unit_of_torque"] in record["scaling"]["simulated_returns"]


def test_balance_holds_scaled_and_falls_as_it_is(run, tmp_path):
    done = mlcli("pendulum-transfer", run / "balance", *LARGE, *BRIEF, "-o", tmp_path / "large", "--format", "json")
    found = {row["name"]: row for row in json.loads(done.stdout)["table"]}
    assert found["naive"]["fallen"] == 1 and found["scaled"]["fallen"] == 0
    assert found["scaled"]["return"]["mean"] == pytest.approx(found["optimum"]["return"]["mean"], rel=1e-6)


def test_from_scratch_is_by_the_method_of_the_run(run, tmp_path):
    words = ("--finetune", 1, "--seeds", 1, "--episodes", 4, "--damping", 1, "--time-step", 0.08)
    mlcli("pendulum-transfer", run / "sac", *LARGE, *words, "-o", tmp_path / "large")
    found = rows(tmp_path / "large")
    assert found["from scratch, 1"]["return"]["mean"] < -600 < found["fine-tuned, 1"]["return"]["mean"]
    assert found["scaled"]["return"]["sd"] is None and found["scaled"]["return"]["interval"] is None
    record = json.loads((tmp_path / "large" / "transfer.json").read_text())
    assert record["large"]["damping"] == 1 and record["groups"][1]["ratio"] is None


@pytest.mark.parametrize(
    "words, status, message",
    [
        (["--mass", 0, "--length", 1], 2, "mass"),
        (["--mass", 1, "--length", "nan"], 2, "less than or equal"),
        (["--mass", 8, "--length", 4, "--max-torque", 3], 2, "the least that suffices is 14.72 N m"),
        (["--mass", 8], 2, "length"),
    ],
)
def test_what_cannot_be_is_refused(run, tmp_path, words, status, message):
    said = mlcli("pendulum-transfer", run / "swing-up", *words, "-o", tmp_path / "large", status=status).stderr
    assert message in " ".join(said.replace("│", " ").split()) and not (tmp_path / "large").exists()


def test_a_run_without_a_policy_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    said = mlcli("pendulum-transfer", tmp_path / "empty", *LARGE, "-o", tmp_path / "large", status=1).stderr
    assert "name the folder of a run of mlcli pendulum-train" in said


def test_a_folder_with_something_in_it_is_kept(run, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "mine").touch()
    words = (run / "swing-up", *LARGE, *BRIEF, "-o", tmp_path / "large")
    assert "holds something already" in mlcli("pendulum-transfer", *words, status=2).stderr
    mlcli("pendulum-transfer", *words, "--overwrite")
    assert (tmp_path / "large" / "mine").exists()


def test_the_scaled_policy_sees_the_large_pendulum_in_images(run, tmp_path):
    mlcli("render", "pendulum", "-n", 144, "-o", tmp_path / "camera")
    mlcli(
        "train",
        tmp_path / "camera",
        "--gray",
        "--no-flip",
        "--epochs",
        1,
        "--model",
        "smallnet",
        "-o",
        tmp_path / "angle",
    )
    words = ("pendulum-transfer", run / "balance", *LARGE, *BRIEF, "--camera", "a")
    done = mlcli(*words, "--observe", tmp_path / "angle", "-o", tmp_path / "seen")
    found = rows(tmp_path / "seen")
    assert list(found) == ["small", "naive", "scaled", "scaled, from images", "optimum"]
    assert "scaled, seen in images" in done.stdout
    by_images = found["scaled, from images"]["return"]["runs"]
    assert by_images != found["scaled"]["return"]["runs"], "so little trained, it reads other angles"
    mlcli(*words, "--observe", tmp_path / "angle", "-o", tmp_path / "again")
    assert rows(tmp_path / "again")["scaled, from images"]["return"]["runs"] == by_images
    said = mlcli(*words, "--observe", "cifarnet", "-o", tmp_path / "other", status=2).stderr
    assert "the classes of this model are no angles in degrees" in said and not (tmp_path / "other").exists()
    assert "--camera: is that of --observe" in mlcli(*words, "-o", tmp_path / "other", status=2).stderr

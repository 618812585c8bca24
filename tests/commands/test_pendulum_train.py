"""`mlcli pendulum-train`"""

import json

import numpy as np
import pytest

import mlcli as package
from mlcli.errors import UsageError, WeightsError
from tests.cli import mlcli
from tests.killing import killed_at

SMALL = ("--episodes", 2, "--hidden", 8, "--batch-size", 8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs by the methods and tasks that they are named for."""
    folder = tmp_path_factory.mktemp("runs")
    mlcli("pendulum-train", "-o", folder / "sac", *SMALL)
    mlcli("pendulum-train", "-o", folder / "model-based", "--method", "model-based", "--episodes", 1)
    mlcli("pendulum-train", "-o", folder / "balance", "--method", "model-based", "--episodes", 1, "--task", "balance")
    return folder


def test_a_run_has_a_policy_beside_the_optimum(runs):
    results = json.loads((runs / "model-based" / "results.json").read_text())
    learned, optimum = (row["return"]["mean"] for row in results["policies"])
    assert learned == pytest.approx(optimum, rel=1e-3) and -140 < optimum < -130
    assert results["policies"][0]["return"]["interval"][0] < learned < results["policies"][0]["return"]["interval"][1]
    lines = [json.loads(line) for line in (runs / "sac" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [200, 400]
    assert lines[0].keys() >= {"reward", "val_return", "upright"} and "loss_critic" in lines[1]
    assert json.loads((runs / "sac" / "config.json").read_text())["options"]["episodes"] == 2


def test_balance_is_as_good_as_the_regulator(runs):
    results = json.loads((runs / "balance" / "results.json").read_text())
    returns = {row["name"]: row["return"]["mean"] for row in results["policies"]}
    assert returns["learned"] == pytest.approx(returns["LQR"], rel=1e-6)
    assert returns["learned"] >= returns["dynamic programming"] and results["policies"][0]["fallen"] == 0


def test_the_report_shows_curves_maps_and_paths(runs):
    page = (runs / "sac" / "report.html").read_text()
    for words in ("optimum (dynamic programming)", "Learning curve", "Over angle and velocity", "Phase portraits"):
        assert words in page
    assert "data:image/png" in page and "http:" not in page.replace("http://www.w3.org", "")


def test_a_policy_of_one_observation_and_of_many(runs):
    policy = package.load_policy(runs / "sac")
    one = policy([1.0, 0.0, 0.5])
    many = policy(np.array([[1.0, 0.0, 0.5], [-1.0, 0.0, -8.0]], "float32"))
    assert one.shape == (1,) and many.shape == (2, 1) and many[0] == pytest.approx(one, abs=1e-6)
    assert np.abs(many).max() <= 2
    upright = package.load_policy(str(runs / "balance"))(np.array([np.cos(0.01), np.sin(0.01), 0.0]))
    assert upright == pytest.approx(-0.197, abs=0.01)
    for wrong, message in (([1.0, 0.0], "shape"), (3.0, "shape"), ([1.0, 0.0, float("nan")], "no finite number")):
        with pytest.raises(UsageError, match=message):
            policy(wrong)
    with pytest.raises(WeightsError, match="no such run"):
        package.load_policy(runs / "nothing")


def test_the_same_seed_is_the_same_run_and_another_is_another(runs, tmp_path):
    for name, seed in (("same", 0), ("other", 1)):
        mlcli("pendulum-train", "-o", tmp_path / name, *SMALL, "--seed", seed)
    model = (runs / "sac" / "model.safetensors").read_bytes()
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == model
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != model


@pytest.mark.parametrize("step", [150, 310])
def test_killed_and_resumed_it_is_the_run_that_was_not(runs, tmp_path, step):
    words = ("pendulum-train", "-o", tmp_path / "run", *SMALL)
    reached = killed_at(tmp_path / "run", step, *words)
    assert step <= reached < 400
    mlcli(*words, "--resume")
    for name in ("model.safetensors", "results.json"):
        assert (tmp_path / "run" / name).read_bytes() == (runs / "sac" / name).read_bytes()


def test_a_finished_run_is_left_alone(runs):
    before = (runs / "sac" / "config.json").stat().st_mtime_ns
    mlcli("pendulum-train", "-o", runs / "sac", *SMALL, "--resume")
    assert (runs / "sac" / "config.json").stat().st_mtime_ns == before
    assert (
        "started with mass 1.0" in mlcli("pendulum-train", "-o", runs / "sac", "--resume", "--mass", 2, status=2).stderr
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["--mass", "0"], "mass"),
        (["--length", "-1"], "length"),
        (["--mass", "nan"], "less than or equal"),
        (["--gravity", "inf"], "gravity"),
        (["--damping", "-0.1"], "damping"),
        (["--max-torque", "0.3"], "the least that suffices is 0.4599 N m"),
        (["--task", "juggle"], "juggle"),
    ],
)
def test_what_cannot_be_is_refused(words, message, tmp_path):
    said = mlcli("pendulum-train", "-o", tmp_path / "run", *words, status=2).stderr
    assert message in " ".join(said.replace("│", " ").split()) and not (tmp_path / "run").exists()


def test_the_least_torque_that_is_told_suffices(tmp_path):
    words = ("--max-torque", 0.4599, "--method", "model-based", "--episodes", 1)
    mlcli("pendulum-train", "-o", tmp_path / "run", *words)


def test_python_refuses_what_is_no_number(tmp_path):
    with pytest.raises(UsageError, match="mass nan: take a number from"):
        package.pendulum_train(mass=float("nan"), output=tmp_path / "run")


def test_a_weak_motor_may_balance(tmp_path):
    words = ("--max-torque", 0.4, "--task", "balance", "--method", "model-based", "--episodes", 1)
    mlcli("pendulum-train", "-o", tmp_path / "run", *words)
    assert package.load_policy(tmp_path / "run")([1.0, 0.0, 8.0]) == pytest.approx(-0.4)

"""`mlcli adapt` interrupted, killed and resumed, by one process and by two."""

import json
import os
import signal

import pytest

from mlcli.methods.adaptation import results
from mlcli.methods.adaptation.adda import ADDA
from mlcli.methods.adaptation.supervised_stage import SupervisedStage
from tests.adaptations import QUICK, SMALL, adapt, files, write_domains
from tests.cli import mlcli
from tests.killing import killed_and_resumed, two_processes_killed_and_resumed


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_domains(tmp_path_factory.mktemp("domains"))


def test_interrupted_between_and_within_stages(data, tmp_path, monkeypatch):
    """A run stopped in each of its stages and resumed is the run never stopped."""
    options = ["--test", data / "test", "--format", "json"]
    whole = json.loads(adapt(data, tmp_path / "whole", *options).stdout)
    run = tmp_path / "broken"
    for kind, at in ((SupervisedStage, 11), (ADDA, 4)):
        step = kind.step

        def stopped(self, batch, number, step=step, at=at):
            if number == at:
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, batch, number)

        with monkeypatch.context() as patch:
            patch.setattr(kind, "step", stopped)
            assert "Resume with" in adapt(data, run, *options, "--resume", status=130).stderr
    measure = results.measure
    with monkeypatch.context() as patch:
        patch.setattr(results, "measure", lambda *given: (os.kill(os.getpid(), signal.SIGINT), measure(*given)))
        said = adapt(data, run, *options, "--resume", status=130).stderr
    assert "interrupted; what is computed is kept. Resume with:" in said
    assert json.loads(adapt(data, run, *options, "--resume").stdout) == whole
    ours, theirs = files(run), files(tmp_path / "whole")
    assert {k: v for k, v in ours.items() if "/state/" not in k} == {
        k: v for k, v in theirs.items() if "/state/" not in k
    }


@pytest.mark.parametrize(
    "method, kills, ends",
    [
        ("adda", (10, 40), (30, 60)),
        ("simgan", (10, 170, 215), (30, 210, 240)),
        ("cycada", (32, 70), (36, 96)),
        ("seuda", (35,), (60,)),
        ("shot", (10, 45), (30, 60)),
        ("dann", (10, 45), (30, 60)),
        ("self-ensembling", (45,), (60,)),
    ],
)
def test_killed_in_several_stages_and_resumed_equals_never_killed(method, kills, ends, data, tmp_path):
    """30 steps of the source; of ADDA 30 more; of SimGAN 180 of the refiner, and 30 of the classifier; of CyCADA 6 of
    the translators, 30 of the classifier of translations, 30 of the feature stage alone and 30 after both; of SeUDA,
    of SHOT, of DANN and of self-ensembling 30.
    """
    command = ["adapt", "--method", method, data / "source", data / "target", "--test", data / "test"]
    command += [*QUICK, *SMALL[method], "--steps", 30]
    steps = killed_and_resumed(kills, 0, tmp_path, *command)
    assert all(kill <= step < end for kill, step, end in zip(kills, steps, ends, strict=True)), steps
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert (broken / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    ours, theirs = ({k: v for k, v in files(run).items() if "/state/" not in k} for run in (broken, whole))
    assert ours == theirs


@pytest.mark.parametrize("method", ["adda", "dann", "self-ensembling", "seuda", "shot"])
def test_two_processes_agree_with_one_and_resume(method, data, tmp_path):
    """Killed in the adaptation, after the 30 steps of the source."""
    command = ["adapt", "--method", method, data / "source", data / "target", "--test", data / "test", *QUICK]
    command += [*SMALL[method], "--device", "cpu"]
    mlcli(*command, "-o", tmp_path / "one")
    run = tmp_path / "two"
    assert 31 <= two_processes_killed_and_resumed(run, 31, *command, "-o", run) < 39
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    for ours, theirs in zip(two["selection"][0]["candidates"], one["selection"][0]["candidates"], strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], abs=2e-3)
    assert two["adapted"]["mean"] == pytest.approx(one["adapted"]["mean"], abs=0.04)


def test_a_stage_is_not_gone_on_with_alone(data, tmp_path):
    adapt(data, tmp_path / "run")
    said = adapt(data, tmp_path / "run/seed-0/adapted", "--resume", status=2).stderr
    assert "a run of `mlcli adapt (a stage of the run in ../..)`" in said

"""States that do not fit, and metrics that cannot be read."""

import pytest
import torch

from mlcli.errors import RunError
from mlcli.runtime.processes import Processes
from mlcli.training.loop import fit
from tests.linear_fit import CPU, LinearFit, lines, new_run, plan, train


def test_a_state_that_lacks_a_part_is_refused_and_left_as_it_is(tmp_path):
    run = new_run(tmp_path)
    train(run)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    method = LinearFit()
    method.state["history"] = torch.nn.Identity()  # of a later version
    with pytest.raises(RunError, match="its state has no history; another version of mlcli began it"):
        train(run, method)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "change",
    [
        {"network": {}},
        {"network": {"weight": torch.ones(2, 2), "bias": torch.ones(1)}},
        {"network": [1]},
        {"optimizer": {"state": {}, "param_groups": []}},
        {"optimizer": None},
        {"window": {"sums": 5}},
    ],
)
def test_a_state_that_does_not_fit_is_said(change, tmp_path):
    run = new_run(tmp_path)
    train(run, max_steps=4)
    run.save_state(9, run.load_state() | change)
    with pytest.raises(RunError, match=f"its state after step 9 does not fit its {next(iter(change))} "):
        train(run)


def test_an_optimizer_of_other_shapes_is_said(tmp_path):
    run = new_run(tmp_path)
    train(run, max_steps=4)
    state = run.load_state()
    state["optimizer"]["state"][0]["momentum_buffer"] = torch.ones(5, 5)
    run.save_state(9, state)
    with pytest.raises(RunError, match=r"its momentum_buffer is of \(5, 5\) for \(1, 1\)"):
        train(run)


def test_lines_lost_of_the_metrics_are_said(tmp_path):
    run, told = new_run(tmp_path), []
    train(run, max_steps=4)
    lost = ["5", "[]", '{"step": -1}', '{"step": 2, "loss": "x"}', "\udcff", '{"step": 2, "lo']
    with open(run.metrics_file, "ab") as file:
        file.write("\n".join(lost).encode("utf-8", "surrogateescape"))
    fit(LinearFit(), plan(), run, Processes(CPU), report=lambda progress: told.append(progress.note))
    assert "left out of metrics.jsonl: 5 lines that cannot be read" in told
    assert all(line["step"] > 0 for line in lines(run)) and lines(run)[-1]["step"] == 30

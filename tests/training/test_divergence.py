"""Losses, weights and outputs that are no longer finite numbers."""

import pytest
import torch

from mlcli.errors import TrainingError, WeightsError
from tests.linear_fit import LinearFit, new_run, plan, train


@pytest.mark.parametrize("bad_step", [0, 6, 7])
def test_a_loss_that_is_no_number_names_its_batch_and_keeps_the_good_state(tmp_path, bad_step):
    class Diverges(LinearFit):
        def step(self, batch, step):
            losses = super().step(batch, step)
            return {"loss": losses["loss"] * float("nan")} if step >= bad_step else losses

    run = new_run(tmp_path / "run")
    with pytest.raises(TrainingError) as caught:
        train(run, Diverges(), save_every=0)
    message = str(caught.value)
    assert f"step {bad_step + 1}," in message
    for index in plan().indices(bad_step).tolist():
        assert f"{index}.png" in message
    saved = run.load_state()
    assert (saved["step"] if saved else 0) == bad_step, "the newest state is the one before the bad step"


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    """The loss is of the weights before the update, so it does not tell."""

    def break_weights(step):
        if step == 7:
            method.network.weight.data.fill_(float("nan"))

    run, method = new_run(tmp_path / "run"), LinearFit(at_step=break_weights)
    with pytest.raises(TrainingError, match="weights of the network are no longer numbers after step 8"):
        train(run, method, save_every=0)
    assert run.load_state()["step"] == 7 and not run.model_file.exists()


class Diverging(LinearFit):
    """Its second update leaves weights that are no numbers, or too large, while all losses are numbers still."""

    def __init__(self, weight: float, fails: Exception):
        super().__init__()
        self.weight, self.fails = weight, fails

    def step(self, batch, step):
        losses = super().step(batch, step)
        if step == 1:
            with torch.no_grad():
                self.network.weight.fill_(self.weight)
        return losses

    def _observe(self):
        if not self.network.weight.abs().max() < 1e6:
            raise self.fails
        return {}

    evaluate = samples = _observe


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("fails", [WeightsError("damaged"), RuntimeError("probabilities"), IndexError("of -1")])
@pytest.mark.parametrize("changes", [{"evaluate_every": 2}, {"sample_every": 2}])
def test_networks_that_have_diverged_are_not_looked_at(weight, fails, changes, tmp_path):
    run = new_run(tmp_path)
    with pytest.raises(TrainingError, match="no longer (a number|numbers) after step 2; start again with a lower --lr"):
        train(run, Diverging(weight, fails), log_every=1000, **{"evaluate_every": 1000, "sample_every": 1000} | changes)
    assert run.load_state() is None and not run.samples_folder.exists()


def test_a_fault_of_an_observer_is_not_reported_as_divergence(tmp_path):
    with pytest.raises(ValueError, match="a bug"):
        train(new_run(tmp_path), Diverging(2e6, ValueError("a bug")), evaluate_every=2)


@pytest.mark.parametrize("rate", [1e38, 1e39, 1e300])
def test_a_rate_beyond_what_weights_can_be_is_said(rate, tmp_path):
    method = LinearFit()
    method.optimizer = torch.optim.AdamW(method.network.parameters(), lr=rate)
    with pytest.raises(TrainingError, match="lower --lr"):
        train(new_run(tmp_path), method)

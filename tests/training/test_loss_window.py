"""Means of the losses between two lines of the log."""

import torch

from tests.linear_fit import LinearFit, lines, new_run, train


def test_logged_means_cover_the_steps_since_the_last_line(tmp_path):
    class Counts(LinearFit):
        def step(self, batch, step):
            super().step(batch, step)
            return {"loss": torch.tensor(float(step))}

    run = new_run(tmp_path / "run")
    train(run, Counts(), epochs=1)
    assert [(line["step"], line["loss"]) for line in lines(run)] == [(2, 0.5), (4, 2.5), (5, 4.0)]


def test_the_mean_of_a_loss_of_some_steps_is_over_those(tmp_path):
    class Counts(LinearFit):
        def step(self, batch, step):
            return super().step(batch, step) | ({} if step % 2 else {"even": torch.tensor(float(step))})

    run = new_run(tmp_path / "run")
    train(run, Counts(), epochs=1)
    assert [line["even"] for line in lines(run)] == [0, 2, 4]

"""The loop: order, resume, interrupts, guards, logs. The method under test is a linear fit, small enough to check."""

import json
import os
import resource
import signal
from contextlib import ExitStack, contextmanager

import pytest
import torch

from mlcli.errors import Interrupted, MlcliError, RunError, TrainingError, WeightsError
from mlcli.runtime.processes import Processes
from mlcli.training.loop import SCHEDULES, Plan, fit
from mlcli.training.run_folder import Run

CPU = torch.device("cpu")


class LinearFit:
    """y = 3 x - 1 by SGD with dropout on the input, so that the global random stream matters too."""

    def __init__(self, items: int = 40, at_step=lambda step: None):
        torch.manual_seed(7)
        self.network = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        self.state = {"network": self.network, "optimizer": self.optimizer}
        self.x = torch.linspace(-1, 1, items)[:, None]
        self.seen: list[torch.Tensor] = []
        self.at_step = at_step

    def load(self, indices, step):
        return indices, self.x[indices]

    def step(self, batch, step):
        indices, x = batch
        self.seen.append(indices)
        noisy = x + 0.01 * torch.randn_like(x)
        loss = (self.network(noisy) - (3 * x - 1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.at_step(step)
        return {"loss": loss}

    def name_batch(self, indices, step):
        return [f"{index}.png" for index in indices.tolist()]

    def warning(self, values):
        return ""

    def evaluate(self):
        return {"slope": self.network.weight.item()}

    def samples(self):
        return {"fit": torch.full((3, 2, 2), 0.5)}

    def save_model(self, run):
        run.save_model(self.network.state_dict(), {"kind": "linear"})


def plan(**changes) -> Plan:
    return Plan(**{"items": 40, "batch_size": 8, "epochs": 6, "seed": 3, "log_every": 2, "save_every": 1e9} | changes)


def new_run(folder) -> Run:
    run = Run(folder)
    run.create({"command": "test", "options": {}, "data": {}})
    return run


def train(run: Run, method=None, **changes):
    method = method or LinearFit()
    return method, fit(method, plan(**changes), run, Processes(CPU))


def lines(run: Run) -> list[dict]:
    """The metrics without the times."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in run.metrics()]


def test_learns_and_writes_the_run_folder(tmp_path):
    run = new_run(tmp_path / "run")
    method, figures = train(run, epochs=20)
    assert method.network.weight.item() == pytest.approx(3, abs=0.05)
    assert method.network.bias.item() == pytest.approx(-1, abs=0.05)
    assert figures["slope"] == method.network.weight.item()
    assert run.model_file.is_file()
    assert [line["step"] for line in lines(run) if "slope" in line] == list(range(5, 101, 5))
    assert len(list(run.samples_folder.glob("fit-*.png"))) == 20


def test_each_epoch_shows_every_item_once_in_another_order():
    chosen = plan(epochs=3)
    epochs = [torch.cat([chosen.indices(step) for step in range(e * 5, e * 5 + 5)]) for e in range(3)]
    for order in epochs:
        assert sorted(order.tolist()) == list(range(40))
    assert not torch.equal(epochs[0], epochs[1]) and not torch.equal(epochs[1], epochs[2])
    assert torch.equal(chosen.indices(7), plan(epochs=3).indices(7)), "a function of (seed, step) alone"
    assert not torch.equal(chosen.indices(7), plan(epochs=3, seed=4).indices(7))


def test_a_batch_larger_than_the_data_is_the_data():
    assert plan(batch_size=100).batch_size == 40
    assert plan(batch_size=100).steps == 6


def test_the_remainder_of_an_epoch_is_left_out():
    chosen = plan(batch_size=12)
    assert chosen.steps_per_epoch == 3 and chosen.steps == 18
    assert plan(max_steps=4).steps == 4


@pytest.mark.parametrize("stop", [1, 4, 5, 13, 29])
def test_interrupted_and_resumed_equals_unbroken(tmp_path, stop):
    whole = new_run(tmp_path / "whole")
    unbroken, _ = train(whole)

    def interrupt(step):
        if step == stop - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    broken = new_run(tmp_path / "broken")
    with pytest.raises(Interrupted, match=f"after step {stop} of 30") as caught:
        train(broken, LinearFit(at_step=interrupt))
    assert caught.value.exit_status == 143
    resumed, figures = train(broken)

    assert torch.equal(resumed.network.weight, unbroken.network.weight)
    assert torch.equal(resumed.network.bias, unbroken.network.bias)
    assert broken.model_file.read_bytes() == whole.model_file.read_bytes()
    assert lines(broken) == lines(whole)
    assert len(resumed.seen) == 30 - stop, "no step is done twice"


def test_a_state_that_lacks_a_part_is_refused_and_left_as_it_is(tmp_path):
    run = new_run(tmp_path)
    train(run)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    method = LinearFit()
    method.state["history"] = torch.nn.Identity()  # of a later version
    with pytest.raises(RunError, match="its state has no history; another version of mlcli began it"):
        train(run, method)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_steps_after_the_last_state_are_done_again(tmp_path):
    """As after SIGKILL: metrics may be ahead of the state."""
    whole = new_run(tmp_path / "whole")
    unbroken, _ = train(whole)

    class Killed(Exception):
        pass

    def kill(step):
        if step == 13:
            raise Killed

    broken = new_run(tmp_path / "broken")
    with pytest.raises(Interrupted):
        train(broken, LinearFit(at_step=lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None))
    with pytest.raises(Killed):
        train(broken, LinearFit(at_step=kill))
    assert lines(broken)[-1]["step"] == 12
    train(broken)
    assert lines(broken) == lines(whole)
    assert broken.model_file.read_bytes() == whole.model_file.read_bytes()


def test_a_finished_run_is_left_as_it_is(tmp_path):
    run = new_run(tmp_path / "run")
    _, first = train(run)
    before = {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")}
    again, figures = train(run)
    assert again.seen == [] and figures == first
    assert {file: file.stat().st_mtime_ns for file in run.folder.rglob("*")} == before, "make would do all that follows"


@contextmanager
def full_disk(free: int = 0):
    """No file of this process can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def at(steps: int, act):
    """A method that acts in the step of this number, counted from 1."""
    return LinearFit(at_step=lambda step: act() if step == steps - 1 else None)


@pytest.mark.parametrize("step, saved", [(1, 3), (2, 3), (10, 11), (28, 29), (29, 30), (30, 30)])
def test_metrics_that_cannot_be_written_end_the_training_with_all_saved(tmp_path, step, saved):
    whole = new_run(tmp_path / "whole")
    unbroken, _ = train(whole)
    run = new_run(tmp_path / "run")

    def fill():
        if run.metrics_file.exists():
            run.metrics_file.rename(tmp_path / "metrics")
        run.metrics_file.symlink_to("/dev/full")

    with pytest.raises(MlcliError, match="metrics.jsonl: cannot be written: No space left on device; ") as ended:
        train(run, at(step, fill))
    assert run.load_state()["step"] == saved and run.model_file.exists() == (saved == 30)
    assert "--resume" in str(ended.value) or saved == 30
    run.metrics_file.unlink()
    if (tmp_path / "metrics").exists():
        (tmp_path / "metrics").rename(run.metrics_file)
    resumed, figures = train(run)
    assert lines(run) == lines(whole) and figures["slope"] == unbroken.network.weight.item()
    assert run.model_file.read_bytes() == whole.model_file.read_bytes()


@pytest.mark.parametrize("step", [3, 10, 30])
def test_samples_that_cannot_be_written_end_it_with_all_saved(tmp_path, step):
    run = new_run(tmp_path / "run")
    run.samples_folder.write_text("in the way")
    with pytest.raises(MlcliError, match="samples/fit-.*: cannot be written: .*"):
        train(run, sample_every=step)
    assert run.load_state()["step"] == min(step + 1, 30)
    assert run.model_file.exists() == (step == 30)


def test_a_report_that_cannot_be_written_ends_it_with_all_saved(tmp_path):
    run = new_run(tmp_path / "run")

    def report(progress):
        if progress.event == "epoch":
            raise MlcliError("report.html: cannot be written")

    with pytest.raises(MlcliError, match="report.html: cannot be written. All is saved after step 6; "):
        fit(LinearFit(), plan(), run, Processes(CPU), report=report)
    train(run)
    assert len([line for line in lines(run) if "slope" in line]) == 6


@pytest.mark.parametrize("free", [0, 40, 200])
def test_a_full_disk_keeps_the_last_state_and_no_half_lines(tmp_path, free):
    whole = new_run(tmp_path / "whole")
    train(whole, save_every=0)
    run, stack = new_run(tmp_path / "run"), ExitStack()

    def fill():
        stack.enter_context(full_disk(run.metrics_file.stat().st_size + free))

    with stack, pytest.raises(MlcliError, match="cannot be written: File too large"):
        train(run, at(8, fill), save_every=0)
    assert run.load_state()["step"] == 7 and run.metrics_file.read_text().endswith("}\n")
    train(run, save_every=0)
    assert lines(run) == lines(whole) and run.model_file.read_bytes() == whole.model_file.read_bytes()


def test_figures_are_measured_when_the_plan_says(tmp_path):
    run = new_run(tmp_path / "run")
    train(run, evaluate_every=7)
    assert [line["step"] for line in lines(run) if "slope" in line] == [7, 14, 21, 28, 30]
    assert [int(file.stem[-8:]) for file in sorted(run.samples_folder.iterdir())] == [5, 10, 15, 20, 25, 30]


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(new_run(tmp_path / "run"), epochs=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


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


def test_metrics_are_strict_json(tmp_path):
    run = new_run(tmp_path / "run")
    run.log(1, {"loss": float("inf"), "other": torch.tensor(2.0)})
    assert json.loads(run.metrics_file.read_text()) == {"step": 1, "loss": None, "other": 2.0}


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_rates_stay_between_zero_and_one(name):
    factors = [SCHEDULES[name](step, 100) for step in range(100)]
    assert all(0 < factor <= 1 for factor in factors)


def test_one_cycle_by_hand():
    one_cycle = SCHEDULES["one-cycle"]
    assert one_cycle(0, 100) == pytest.approx(0.1)
    assert one_cycle(25, 100) == pytest.approx(1)
    assert one_cycle(70, 100) == pytest.approx(0.4)
    assert SCHEDULES["cosine"](5, 100) == pytest.approx(1)
    assert SCHEDULES["cosine"](52.5, 100) == pytest.approx(0.5)


def test_linear_and_stepped_rates_by_hand():
    linear, stepped = SCHEDULES["linear"], SCHEDULES["step"]
    assert [linear(step, 200) for step in (0, 99, 100, 150, 199)] == pytest.approx([1, 1, 1, 0.5, 0.01])
    assert [stepped(step, 200) for step in (0, 49, 50, 100, 199)] == pytest.approx([1, 1, 0.1, 0.01, 0.001])


def test_samples_every_so_many_steps_and_at_the_end(tmp_path):
    run = new_run(tmp_path / "run")
    train(run, sample_every=8)
    assert sorted(int(file.stem[-8:]) for file in run.samples_folder.iterdir()) == [8, 16, 24, 30]


def test_a_warning_names_the_files_of_the_last_batch(tmp_path):
    class Warns(LinearFit):
        def warning(self, values):
            return "all is lost" if len(self.seen) == 4 else ""

    events = []
    fit(Warns(), plan(epochs=1), new_run(tmp_path / "run"), Processes(CPU), report=events.append)
    (warning,) = [event for event in events if event.event == "warning"]
    assert warning.step == 4 and warning.note.startswith("step 4: all is lost. The last batch was ")
    assert all(f"{index}.png" in warning.note for index in plan().indices(3).tolist())


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

    def _look(self):
        if not self.network.weight.abs().max() < 1e6:
            raise self.fails
        return {}

    evaluate = samples = _look


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("fails", [WeightsError("damaged"), RuntimeError("probabilities"), IndexError("of -1")])
@pytest.mark.parametrize("changes", [{"evaluate_every": 2}, {"sample_every": 2}])
def test_networks_that_have_diverged_are_not_looked_at(weight, fails, changes, tmp_path):
    run = new_run(tmp_path)
    with pytest.raises(TrainingError, match="no longer (a number|numbers) after step 2; start again with a lower --lr"):
        train(run, Diverging(weight, fails), log_every=1000, **{"evaluate_every": 1000, "sample_every": 1000} | changes)
    assert run.load_state() is None and not run.samples_folder.exists()


def test_a_fault_of_what_looks_is_not_called_divergence(tmp_path):
    with pytest.raises(ValueError, match="a bug"):
        train(new_run(tmp_path), Diverging(2e6, ValueError("a bug")), evaluate_every=2)


@pytest.mark.parametrize("rate", [1e38, 1e39, 1e300])
def test_a_rate_beyond_what_weights_can_be_is_said(rate, tmp_path):
    method = LinearFit()
    method.optimizer = torch.optim.AdamW(method.network.parameters(), lr=rate)
    with pytest.raises(TrainingError, match="lower --lr"):
        train(new_run(tmp_path), method)


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
    assert "5 lines of metrics.jsonl cannot be read and are left out" in told
    assert all(line["step"] > 0 for line in lines(run)) and lines(run)[-1]["step"] == 30

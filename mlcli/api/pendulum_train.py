"""`mlcli.pendulum_train`: a policy that swings a pendulum up, or balances it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mlcli.api import common, pendulums
from mlcli.api.call import Call, function
from mlcli.api.events import say
from mlcli.api.train import Training
from mlcli.errors import UsageError
from mlcli.methods.control.configs import EPISODES, METHODS, TASKS, Sac
from mlcli.options import METHOD, TRAINING, option, same

if TYPE_CHECKING:
    from mlcli.methods.control.learner import Learner
    from mlcli.methods.control.pendulum import Pendulum
    from mlcli.training.run_folder import Run


@dataclass(frozen=True, kw_only=True)
class PendulumTrainConfig(common.WritesRun):
    mass: float = pendulums.mass()
    length: float = pendulums.length()
    gravity: float = pendulums.gravity()
    max_torque: float = pendulums.max_torque()
    damping: float = pendulums.damping()
    task: str = option(
        "swing-up",
        "What is learned: swing-up from any state, or balance from near upright.",
        choices=TASKS,
        panel=METHOD,
    )
    method: str = option(
        "sac",
        "How it is learned: from rewards alone (sac), or by identifying the equations and planning on them "
        "(model-based).",
        choices=METHODS,
        panel=METHOD,
    )
    episodes: int | None = option(
        None,
        "Number of episodes to learn from, of 200 steps each.",
        minimum=1,
        maximum=10_000,
        shown_default=", ".join(f"{count} for {name}" for name, count in EPISODES.items()),
        panel=TRAINING,
    )
    hidden: int = same(Sac, "hidden")
    discount: float = same(Sac, "discount")
    lr: float = same(Sac, "lr")
    batch_size: int = same(Sac, "batch_size")


@function(PendulumTrainConfig)
def pendulum_train(call: Call[PendulumTrainConfig]) -> Training:
    """Learn a policy that swings a pendulum up, or balances it, on the equations of gymnasium's Pendulum-v1.

    The reward, the bounds and the time step are gymnasium's; the simulation computes in float64. `metrics` has
    `val_return`, the mean return of 200 episodes apart from those that were learned from. The run folder holds the
    policy, for `mlcli.load_policy` and `mlcli.pendulum_transfer`, and a report in which the optimum stands beside it.
    With `resume` an interrupted run continues to the same numbers as one never interrupted.

        >>> import mlcli
        >>> result = mlcli.pendulum_train(method="model-based", output="runs/small")  # doctest: +SKIP
        >>> policy = mlcli.load_policy(result.folder)  # doctest: +SKIP
        >>> policy([1.0, 0.0, 0.5])  # cos(angle), sin(angle), velocity  # doctest: +SKIP
        -1.7

    Raises UsageError for a motor that is too weak to swing the pendulum up, with the least torque that suffices.
    """
    from mlcli.api import run_reports, runs
    from mlcli.methods.control.learner import measured
    from mlcli.methods.control.pendulum import STEPS
    from mlcli.runtime.device import one_thread
    from mlcli.training.plan import Plan

    processes, _, folder, options = runs.begin(call)
    if processes.count > 1:
        raise UsageError("pendulum-train runs in one process; start it without torchrun")
    if (metrics := runs.finished(call, folder, options, processes)) is not None:
        return Training(folder.folder, metrics)
    pendulum = pendulum_of(options)
    pendulums.require_torque(pendulum, options["task"])
    options["episodes"] = options["episodes"] or EPISODES[options["method"]]
    learner = learner_of(options, pendulum)
    runs.start(folder, "pendulum-train", options, {}, resume=call.config.resume)
    plan = Plan(
        STEPS, 1, options["episodes"], options["seed"], log_every=STEPS, save_every=options["save_every"],
        sample_every=STEPS * max(1, options["episodes"] // 8),
    )  # fmt: skip
    with one_thread():  # several would wait for each other longer than these networks take
        metrics = runs.fit(folder, learner, plan, processes)
        results = measured(learner.policy, options["task"])
    folder.save_results(results)
    run_reports.write(folder)
    _tell(folder, results)
    runs.finish(folder, options, processes, metrics)
    return Training(folder.folder, metrics)


def pendulum_of(options: Mapping[str, Any]) -> "Pendulum":
    """The pendulum of these options, with gymnasium's reward, time step and greatest speed."""
    from mlcli.methods.control.pendulum import Pendulum

    names = [each.name for each in fields(Pendulum) if each.name in options]
    return Pendulum(**{name: options[name] for name in names})


def learner_of(options: Mapping[str, Any], pendulum: "Pendulum") -> "Learner":
    """What learns by these options, its networks as they begin."""
    from mlcli.methods.control.model_based import ModelBasedLearner
    from mlcli.methods.control.sac import SacLearner
    from mlcli.runtime.random_streams import seed_global

    seed_global(options["seed"], "training/initialization")
    common_arguments = pendulum, options["task"], options["episodes"]
    if options["method"] == "model-based":
        return ModelBasedLearner(*common_arguments, options["seed"])
    names = {each.name for each in fields(Sac)} & options.keys()
    return SacLearner(*common_arguments, Sac(**{name: options[name] for name in names}), options["seed"])


def _tell(run: "Run", results: Mapping[str, Any]) -> None:
    """The returns beside those of the optimum, in one line."""
    parts = [f"{row['name']} {row['return']['mean']:.4g}" for row in results["policies"]]
    say(f"{run.folder}: mean return of {results['count']} episodes: {', '.join(parts)}")

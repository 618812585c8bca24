"""`mlcli.pendulum_transfer`: a policy carried to another pendulum."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, pendulums
from mlcli.api.call import Call, Config, function
from mlcli.api.events import Progress, say
from mlcli.errors import Interrupted, UsageError
from mlcli.options import METHOD, PENDULUM, TRAINING, argument, option

if TYPE_CHECKING:
    from mlcli.methods.control.observer import Observer
    from mlcli.methods.control.pendulum import Pendulum
    from mlcli.methods.control.transfer import Transfer

RECORD, ANIMATION, REPORT = "transfer.json", "animation.gif", "report.html"
SIMILAR = "by similarity"
MOST_SEEDS = 30  # as many as there are quantiles of the interval


@dataclass(frozen=True, kw_only=True)
class PendulumTransferConfig(Config):
    run: Path = argument("Run of mlcli pendulum-train.", path="input", metavar="RUN")
    output: Path = common.output_folder()
    mass: float = pendulums.mass(needed=True)
    length: float = pendulums.length(needed=True)
    gravity: float | None = pendulums.gravity(default=None, shown_default="that of the run's pendulum")
    max_torque: float | None = pendulums.max_torque(default=None, shown_default=SIMILAR)
    damping: float | None = pendulums.damping(default=None, shown_default=SIMILAR)
    time_step: float | None = option(
        None, "Time step of the control in s.", minimum=1e-4, maximum=10, shown_default=SIMILAR, panel=PENDULUM
    )
    identify: bool = option(
        False, "Take mass and length as unknown, and identify them from one episode of random torques.", panel=METHOD
    )
    noise: float = option(
        0.0, "Noise of the observations, as a fraction of their ranges.", minimum=0, maximum=1, panel=METHOD
    )
    finetune: int | Sequence[int] | None = option(
        None,
        "Number of episodes to fine-tune with; can be given several times.",
        minimum=1,
        maximum=1000,
        cli_type=list[int],
        shown_default="no fine-tuning",
        panel=TRAINING,
    )
    observe: str | None = option(
        None,
        "Classifier of angles through which the scaled policy also sees the large pendulum in drawn images: a run that "
        "was trained on `mlcli render pendulum`.",
        metavar="MODEL",
        panel=METHOD,
        completes="model",
    )
    camera: str = option(
        "b",
        "Style of the images of --observe, as in `mlcli render pendulum --style`.",
        choices=("a", "b"),
        panel=METHOD,
    )
    seeds: int = option(5, "Number of seeds to measure with.", minimum=1, maximum=MOST_SEEDS, panel=METHOD)
    episodes: int = option(
        100, "Number of episodes per seed that each policy is measured on.", minimum=1, maximum=100_000, panel=METHOD
    )
    seed: int = common.seed()
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Transferred:
    """A policy on another pendulum.

    folder: where it is, for `mlcli.load_policy`.  record: the table, the groups and the options, as in transfer.json.
    """

    folder: Path
    record: Mapping[str, Any]

    def as_json(self) -> Mapping[str, Any]:
        return self.record


@function(PendulumTransferConfig)
def pendulum_transfer(call: Call[PendulumTransferConfig]) -> Transferred:
    """Carry a policy to a pendulum of another mass and length, by the equations that both share.

    In units of the frequency √(g / l) and of the torque m g l, similar pendulums are one pendulum, so a policy scaled
    by these units is as good on the large one as on the small one. What is not said of the large one (greatest torque,
    damping, time step) follows by similarity; so do its greatest speed and the weights of its reward. With `identify`
    the units come from one episode. With `finetune` the scaled policy is fine-tuned, and the run's method also learns
    from scratch on as many episodes. With `observe` the scaled policy also sees the large pendulum in images: a
    classifier reads the angle from each, and two of them give the velocity.

        >>> import mlcli
        >>> result = mlcli.pendulum_transfer("runs/small", mass=8, length=4, output="large")  # doctest: +SKIP
        >>> [(row["name"], row["return"]["mean"]) for row in result.record["table"]]  # doctest: +SKIP
        [('small', -137.2), ('naive', -1187.0), ('scaled', -137.2), ('optimum', -136.0)]

    The folder holds the policy of the first seed (fine-tuned where asked for, else scaled), transfer.json, an animation
    and a report. Raises UsageError for a motor that is too weak to swing the pendulum up, WeightsError for a RUN that
    holds no policy, and DataError where the episodes do not tell mass and length.
    """
    from mlcli.api import pendulum_reports
    from mlcli.api.outputs import claim_folder, refuse_existing_folder
    from mlcli.methods.control import policies
    from mlcli.methods.control.transfer import Task, Transfer
    from mlcli.runtime import signals
    from mlcli.runtime.device import one_thread

    config = call.config
    if config.observe is None and "camera" in call.given:
        raise UsageError("--camera: is that of --observe, which is missing")
    claim_folder(call, config.output, lambda: refuse_existing_folder(config.output, config.overwrite))
    trained = policies.load(config.run)
    large = large_pendulum(config, trained.policy.pendulum)
    pendulums.require_torque(large, trained.task)
    finetune = sorted({config.finetune} if isinstance(config.finetune, int) else set(config.finetune or ()))
    observer = _observer(config)
    task = Task(trained, large, large.gravity, config.identify, finetune, config.noise, config.episodes, observer)
    seeds = range(config.seed, config.seed + config.seeds)
    with one_thread(), signals.noted() as caught, Progress(len(seeds), str(config.output)) as bar:
        transfer = Transfer(task)
        for number, seed in enumerate(seeds, 1):
            transfer.measure(seed)
            bar.to(number)
            if caught:
                raise Interrupted(f"interrupted after {number} of {len(seeds)} seeds; nothing is written", caught[0])
        record = _record(call, transfer, list(seeds))
        pendulum_reports.write_transfer(config.output, record, transfer, call.text)
    say(f"{config.output}: {REPORT}, {ANIMATION}, {RECORD} and the policy")
    return Transferred(config.output, record)


def _observer(config: PendulumTransferConfig) -> "Callable[[int], Observer] | None":
    """What shows the large pendulum in images, of a seed; None without --observe. Raises UsageError, WeightsError."""
    from functools import partial

    from mlcli.methods.control.observer import Observer
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime

    if config.observe is None:
        return None
    runtime = Runtime.choose("cpu", "fp32")
    made = partial(Observer, registry.load(config.observe).to(runtime), config.camera, runtime)
    made(config.seed)  # a model of other classes is found now
    return made


def large_pendulum(config: PendulumTransferConfig, small: "Pendulum") -> "Pendulum":
    """The pendulum that the policy is carried to: what is not said of it follows by similarity."""
    gravity = small.gravity if config.gravity is None else config.gravity
    similar = small.similar(config.mass, config.length, gravity)
    given = {name: getattr(config, name) for name in ("max_torque", "damping", "time_step")}
    return replace(similar, **{name: value for name, value in given.items() if value is not None})


def _record(call: Call[PendulumTransferConfig], transfer: "Transfer", seeds: Sequence[int]) -> dict[str, Any]:
    """What transfer.json holds."""
    from mlcli.api.outputs import determining, record
    from mlcli.methods.control import similarity

    task, first = transfer.task, transfer.results[0]
    groups = [
        {"name": each.name, "small": each.small, "large": each.large, "ratio": each.ratio, "equal": each.equal}
        for each in similarity.groups(task.small, task.large)
    ]
    found = [
        {
            **result.coefficients.pendulum(task.large, task.gravity).as_json(),
            "residual": result.coefficients.residual,
        }
        for result in transfer.results
        if result.coefficients
    ]
    return record(
        "pendulum-transfer",
        determining(call.config, finetune=list(task.finetune)),
        task.trained,
        task=task.trained.task,
        method=task.trained.method,
        seeds=list(seeds),
        small=task.small.as_json(),
        large=task.large.as_json(),
        groups=groups,
        similar=similarity.similar(task.small, task.large),
        scaling={
            "velocity_factor": first.scaling.policy.velocity_factor,
            "torque_factor": first.scaling.policy.torque_factor,
            "unit_of_torque": first.scaling.unit,
            "simulated_returns": first.scaling.expected,
        },
        identified=found,
        table=transfer.table(),
    )

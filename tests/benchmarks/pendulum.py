"""The figures of pendulum-train and pendulum-transfer: what is learned, carried over, identified and balanced.

    python -m tests.benchmarks.pendulum swing-up [--seeds 5] [--method sac] [--folder RUNS]   # trains
    python -m tests.benchmarks.pendulum transfer|ratios|identify|balance [--seeds 5] [--method sac] [--folder RUNS]

Needs gymnasium, which is the referee of what is learned: 100 episodes of Pendulum-v1, seeds 0 to 99 of its `reset`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import mlcli

MODELS = ("sac", "model-based")
RATIOS = (0.5, 0.75, 1.5, 2.0)


def referee(policy, episodes: int = 100) -> float:
    """The mean return of gymnasium's own Pendulum-v1 under a policy."""
    import gymnasium

    environments = [gymnasium.make("Pendulum-v1") for _ in range(episodes)]
    seen = np.stack([each.reset(seed=seed)[0] for seed, each in enumerate(environments)])
    total = 0.0
    for _ in range(200):
        torques = policy(seen)
        steps = [each.step(torque) for each, torque in zip(environments, torques, strict=True)]
        seen = np.stack([step[0] for step in steps])
        total += sum(float(step[1]) for step in steps)
    return total / episodes


def trained(folder: Path, method: str, seed: int, **options) -> Path:
    """A run, trained now where it is not there yet."""
    run = folder / f"{'-'.join([method, *map(str, options.values())])}-{seed}"
    began = time.perf_counter(), time.process_time()
    mlcli.pendulum_train(method=method, seed=seed, output=run, resume=True, **options)
    wall, own = time.perf_counter() - began[0], time.process_time() - began[1]
    print(f"{run.name}: {wall:.0f} s, {own:.0f} s of the processor", flush=True)
    return run


def swing_up(folder: Path, seeds: int, methods: Sequence[str]) -> None:
    from mlcli.api.load_policy import ObservationPolicy
    from mlcli.methods.control.dynamic_programming import plan
    from mlcli.methods.control.pendulum import Pendulum

    print(f"optimum: gymnasium {referee(ObservationPolicy(plan(Pendulum()).policy)):.1f}", flush=True)
    for method in methods:
        found = []
        for seed in range(seeds):
            run = trained(folder, method, seed)
            results = json.loads((run / "results.json").read_text())
            rows = {row["name"]: round(row["return"]["mean"], 1) for row in results["policies"]}
            found.append(referee(mlcli.load_policy(run)))
            print(f"{method}, seed {seed}: gymnasium {found[-1]:.1f}, 1,000 starts {rows}", flush=True)
        print(f"{method}: gymnasium, mean {statistics.mean(found):.1f}, worst {min(found):.1f}", flush=True)


def carried(run: Path, folder: Path, name: str, **options) -> dict:
    """The record of a transfer, and its table printed."""
    result = mlcli.pendulum_transfer(run, output=folder / name, overwrite=True, **options)
    print(name)
    for row in result.record["table"]:
        figures = {key: row["return"][key] for key in ("mean", "sd")}
        more = {key: row[key] for key in ("upright", "fallen", "gap_closed", "return_while_learning")}
        print("  ", row["name"], json.dumps(figures | more), flush=True)
    return result.record


def transfer(folder: Path, seeds: int, methods: Sequence[str]) -> None:
    for method in methods:
        run = trained(folder, method, 0)
        for mass, length in ((8, 4), (2, 0.5), (0.3, 3)):
            record = carried(run, folder, f"{method}-to-{mass}-{length}", mass=mass, length=length, seeds=seeds)
            small, scaled = (
                next(row["return"]["runs"] for row in record["table"] if row["name"] == name)
                for name in ("small", "scaled")
            )
            print(
                "   greatest difference of scaled and small:",
                max(abs(a - b) for a, b in zip(small, scaled, strict=True)),
            )


def ratios(folder: Path, seeds: int, methods: Sequence[str]) -> None:
    for method in methods:
        run = trained(folder, method, 0)
        for ratio in RATIOS:
            options = {"mass": 8, "length": 4, "max_torque": 64 * ratio, "finetune": [1, 3, 5], "seeds": seeds}
            carried(run, folder, f"{method}-ratio-{ratio}", **options)


def identify(folder: Path, seeds: int, methods: Sequence[str]) -> None:
    run = trained(folder, methods[-1], 0)
    for noise in (0.0, 0.001, 0.003, 0.01):
        options = {"mass": 8, "length": 4, "identify": True, "noise": noise, "seeds": 2 * seeds}
        record = carried(run, folder, f"identify-{noise}", **options)
        known, found = (
            next(row["return"]["runs"] for row in record["table"] if row["name"] == name)
            for name in ("scaled", "scaled, identified")
        )
        worst = max(abs(b / a - 1) for a, b in zip(known, found, strict=True))
        masses = [abs(each["mass"] / 8 - 1) for each in record["identified"]]
        lengths = [abs(each["length"] / 4 - 1) for each in record["identified"]]
        print(f"   worst of {2 * seeds} seeds: return {worst:.2%}, mass {max(masses):.2%}, length {max(lengths):.2%}")


def balance(folder: Path, seeds: int, methods: Sequence[str]) -> None:
    for method in methods:
        for seed in range(seeds if method == "sac" else 1):
            run = trained(folder, method, seed, task="balance")
            carried(run, folder, f"{method}-balance-{seed}", mass=8, length=4, seeds=seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"swing-up": swing_up, "transfer": transfer, "ratios": ratios, "identify": identify, "balance": balance}
    parser.add_argument("part", choices=parts)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--method", choices=MODELS, help="one method alone")
    parser.add_argument("--folder", type=Path, default=Path("pendulums"))
    arguments = parser.parse_args()
    methods = (arguments.method,) if arguments.method else MODELS
    parts[arguments.part](arguments.folder, arguments.seeds, methods)


if __name__ == "__main__":
    main()

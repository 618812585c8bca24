"""Horses from a hundred examples: balanced accuracy of `mlcli finetune`, beside the same network from scratch.

    python tests/benchmarks/finetune.py cifar10 --model runs/nine [--draws 5] [--count 100] [-o RUNS] [-- ...]

`runs/nine` is a cifarnet that has never seen a horse: the `mlcli train` config on the other nine classes. Each draw
takes `count` horses and `count` others from cifar10/train and retrains the last layer and the two stages before it
(what follows `--` goes to mlcli finetune in place of `--freeze conv3`); `mlcli train` trains a network of the same
architecture the same images from scratch (--no-baseline leaves it out). Both are tested by `mlcli classify --evaluate
--flip` on all of cifar10/test, a thousand horses and nine thousand others. Prints each draw, then mean and standard
deviation. A draw that was interrupted is resumed.

With --choose N they are tested on N other training images of each instead, and draws are of other seeds: to choose
what follows `--` without reading the test images. (`runs/nine` has learned from the others, but from no horse.)
"""

import argparse
import json
import random
import statistics
import sys
from pathlib import Path

from typer.testing import CliRunner

from mlcli import cli

OPTIONS = ["--freeze", "conv3"]
CHOOSING = 100  # the first seed of draws to choose by


def link(files: list[Path], folder: Path) -> None:
    """The files in a folder, as links that carry the name of their class."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / f"{file.parent.name}-{file.name}"
        if not target.is_symlink():
            target.symlink_to(file.resolve())


def horses_and_others(part: Path, folder: Path, count: int | None, seed: int, without: Path | None = None) -> Path:
    """folder/horse and folder/other, `count` of each drawn by the seed, or all; of what is not linked in `without`."""
    taken = {file.resolve() for file in without.glob("*/*")} if without else set()
    files = sorted(file for file in part.glob("*/*.jpg") if file.resolve() not in taken)
    for name, chosen in (
        ("horse", [file for file in files if file.parent.name == "horse"]),
        ("other", [file for file in files if file.parent.name != "horse"]),
    ):
        link(chosen if count is None else random.Random(seed).sample(chosen, count), folder / name)
    return folder


def run(*words) -> str:
    """What a command prints. SystemExit with its messages where it fails."""
    done = CliRunner().invoke(cli.build(), [*map(str, words), "--quiet"], catch_exceptions=False)
    if done.exit_code:
        raise SystemExit(done.output)
    return done.stdout


def balanced_accuracy(model: Path, test: Path) -> float:
    return json.loads(run("classify", test, "--model", model, "--evaluate", "--flip", "--format", "json"))[
        "balanced_accuracy"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--choose", type=int, metavar="N")
    parser.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/horses"))
    given = sys.argv[1:]
    own, options = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, OPTIONS)
    arguments = parser.parse_args(own)
    train, first, held = arguments.data / "train", 0, None
    if arguments.choose:
        test = held = horses_and_others(train, arguments.output / "choosing", arguments.choose, CHOOSING)
        first = CHOOSING
    else:
        test = horses_and_others(arguments.data / "test", arguments.output / "test", None, 0)
    figures: dict[str, list[float]] = {}
    for draw in range(first, first + arguments.draws):
        data = horses_and_others(train, arguments.output / f"data-{draw}", arguments.count, draw, held)
        tuned, scratch = arguments.output / f"run-{draw}", arguments.output / f"scratch-{draw}"
        run("finetune", data, "--model", arguments.model, "-o", tuned, "--seed", draw, "--resume", *options)
        shown = {"finetuned": balanced_accuracy(tuned, test)}
        if arguments.baseline:
            run("train", data, "-o", scratch, "--seed", draw, "--resume")
            shown["from scratch"] = balanced_accuracy(scratch, test)
        for name, value in shown.items():
            figures.setdefault(name, []).append(value)
        print(draw, *(f"{name} {value:.2%}" for name, value in shown.items()), flush=True)
    for name, values in figures.items():
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: balanced accuracy {statistics.mean(values):.2%} ± {deviation:.2%} over {len(values)} draws")


if __name__ == "__main__":
    main()

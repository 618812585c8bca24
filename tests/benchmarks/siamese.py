"""The figures of siamese-train and siamese-verify, on identities that were not trained on.

    python tests/benchmarks/siamese.py faces ORL -o RUNS
    python tests/benchmarks/siamese.py characters images_background_small1 -o RUNS
    python tests/benchmarks/siamese.py symmetry RUNS/faces-0/run IMAGES

faces: the forty people of the AT&T faces (a folder each, below any folders) in four folds of ten; trained on the other
thirty, all pairs of the ten compared. characters: each alphabet (a folder of folders) in turn by a network of the
others. What follows `--` goes to siamese-train. A run that exists is resumed, or measured once more.
With --choose only the people of the first two folds are used, by which options can be chosen; the others are for tests.

Beside the stored threshold, those that the stored ROC gives for other false accept rates are tried: how many of the
unseen pairs do they accept?
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

OPTIONS = {"faces": ["--loss", "fisher", "--flip"], "characters": ["--content", "--orientations", "8"]}
ASKED = (0.1, 0.05, 0.02, 0.01)


def mlcli(*words) -> str:
    command = [sys.executable, "-m", "mlcli.cli", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def evaluated(run: Path, data: Path, *words) -> dict:
    return json.loads(mlcli("siamese-verify", run, "--evaluate", data, "--format", "json", "-q", *words))


def folds(kind: str, data: Path, seed: int) -> list[list[Path]]:
    """What is held out in each fold: people, or alphabets."""
    holding = sorted({path.parent for path in data.rglob("*") if path.suffix in (".pgm", ".png")})
    if kind == "characters":
        return [[alphabet] for alphabet in sorted({folder.parent for folder in holding})]
    order = torch.randperm(len(holding), generator=torch.Generator().manual_seed(seed)).tolist()
    return [[holding[index] for index in order[fold::4]] for fold in range(4)]


def linked(folder: Path, targets: list[Path]) -> Path:
    """A folder with a link to each."""
    folder.mkdir(parents=True, exist_ok=True)
    for target in targets:
        if not (folder / target.name).is_symlink():
            (folder / target.name).symlink_to(target.absolute())
    return folder


def calibration(run: Path, data: Path) -> str:
    """Asked and found false accept rates, by the thresholds that the stored curve gives."""
    from mlcli.models import artifacts

    stored = artifacts.read(run / "model.safetensors").description["calibration"]
    rates, thresholds = (torch.tensor(stored["curve"][name]) for name in ("false_accept", "threshold"))
    found = []
    for asked in ASKED:
        threshold = thresholds[(rates - asked).abs().argmin()].item()
        rate = evaluated(run, data, "--threshold", threshold, "--trials", 1)["false_accept_rate"]
        found.append(f"{asked:.0%} -> {rate:.2%}")
    return f"threshold stored for {stored['asked'] or stored['equal_error']:.2%}; asked -> found: {', '.join(found)}"


def measure(kind: str, data: Path, output: Path, seed: int, only: list[int], options: list[str]) -> None:
    held_out = folds(kind, data, seed)
    everything = sorted(itertools.chain(*held_out))
    results = []
    for number in only or range(len(held_out)):
        folder = output / f"{kind}-{number}"
        test = linked(folder / "test", held_out[number])
        train = linked(folder / "train", [each for each in everything if each not in held_out[number]])
        began = time.monotonic()
        mlcli("siamese-train", train, "-o", folder / "run", "--seed", seed, "--resume", "-q", *options)
        seconds = time.monotonic() - began
        found = evaluated(folder / "run", test, "--trials", 4000 if kind == "characters" else 400)
        results.append(found)
        names = ", ".join(path.name for path in held_out[number])
        one = found["one_shot"]
        print(f"{names}: {seconds:.0f} s; EER {found['eer']:.2%}, AUC {found['auc']:.4f}, accuracy", end=" ")
        print(f"{found['accuracy']:.2%}; {one['way']}-way one-shot error {1 - one['accuracy']:.2%}")
        print(
            f"  stored threshold accepts {found['false_accept_rate']:.2%}; {calibration(folder / 'run', test)}",
            flush=True,
        )
    mean = {name: sum(result[name] for result in results) / len(results) for name in ("eer", "auc")}
    error = 1 - sum(result["one_shot"]["accuracy"] for result in results) / len(results)
    print(f"mean of {len(results)}: EER {mean['eer']:.2%}, AUC {mean['auc']:.4f}, one-shot error {error:.2%}")


def choose(data: Path, output: Path, seed: int, options: list[str]) -> None:
    """The equal error that siamese-train itself finds on the people of the first two folds, each left out in turn."""
    from mlcli.models import artifacts

    held_out = folds("faces", data, seed)
    people = linked(output / "choosing" / "people", held_out[0] + held_out[1])
    run = output / "choosing" / "-".join(option.strip("-") for option in options)
    began = time.monotonic()
    mlcli("siamese-train", people, "-o", run, "--seed", seed, "--resume", "-q", *options)
    found = artifacts.read(run / "model.safetensors").description["calibration"]["equal_error"]
    print(f"{' '.join(options)}: EER {found:.2%} of twenty people; {time.monotonic() - began:.0f} s", flush=True)


def symmetry(run: Path, images: Path) -> None:
    """d(a, b) and d(b, a), each by a call of its own."""
    files = sorted(path for path in images.rglob("*") if path.suffix in (".pgm", ".png", ".jpg"))[::7][:12]
    worst = 0.0
    for a, b in itertools.combinations(files[:6], 2):
        one, other = (
            json.loads(mlcli("siamese-verify", run, *pair, "--format", "json"))["distance"] for pair in ((a, b), (b, a))
        )
        worst = max(worst, abs(one - other))
    print(f"greatest |d(a, b) - d(b, a)| of 15 pairs: {worst:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("faces", "characters", "symmetry"))
    parser.add_argument("data", type=Path, help="of symmetry, a run")
    parser.add_argument("images", type=Path, nargs="?", help="of symmetry")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs"))
    parser.add_argument("--folds", type=int, nargs="*", default=[], help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="of faces: use the people of the first two folds alone")
    given = sys.argv[1:]
    own, more = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    options = parser.parse_args(own)
    if options.what == "symmetry":
        symmetry(options.data, options.images)
        return
    more = more or OPTIONS[options.what]
    if options.choose:
        choose(options.data, options.output, options.seed, more)
    else:
        measure(options.what, options.data, options.output, options.seed, options.folds, more)


if __name__ == "__main__":
    main()

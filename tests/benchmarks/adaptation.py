"""The figures of `mlcli adapt` against the published ones.

    python tests/benchmarks/adaptation.py adda --data DATA -o runs --seeds 3

DATA holds mnist/{train,test} and usps/{train,test} as class folders, and what `mlcli render` makes:

    mlcli render digits -n 5000 -o DATA/rendered
    mlcli render digits -n 20000 --style b -o DATA/rendered-b
    mlcli render organs -n 400 -o DATA/organs-a
    mlcli render organs -n 400 --style b --seed 1 -o DATA/organs-b/train
    mlcli render organs -n 200 --style b --seed 2 -o DATA/organs-b/test

Rows: adda (2,000 MNIST and 1,800 USPS images, Tzeng et al. 2017), cycada (full training sets, Hoffman et al. 2018),
seuda (USPS to MNIST, and organs under two scanners), simgan (drawn hairlines to MNIST, the same without history, and
from digits that are similar to MNIST's already), dann and self-ensembling (MNIST and USPS, full training sets, French
et al. 2018), mnist-m (--photos: what the digits are blended with). Prints for each direction the command, source only
and adapted, the target figure, and the seconds. A run that exists is resumed. What follows `--` goes to `mlcli adapt`
as it is, such as fewer steps.

With --choose no test set is read: each run of the row is tried with the options of CHOICES, with seeds that are in no
figure and a tenth of the source held out. It prints the accuracy of the source model on that tenth and the criterion
of the adapted model's answers for the unlabeled target, means over the seeds, and names the options with the best
criterion among those whose source model is at most a hundredth worse than the best one.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from mlcli.data.folders import ClassFolder
from mlcli.data.sources import find_images
from mlcli.imaging import image_io
from mlcli.methods.adaptation.registry import METHODS
from mlcli.runtime.random_streams import generator

# row -> (name of the run, source, target, options, what is to be reached)
ROWS = {
    "adda": [
        ("adda-mnist-usps", "mnist", "usps", ["--max-source", "2000", "--max-target", "1800"], "89.4 %"),
        ("adda-usps-mnist", "usps", "mnist", ["--max-source", "1800", "--max-target", "2000"], "90.1 %"),
    ],
    "cycada": [
        ("cycada-mnist-usps", "mnist", "usps", ["--size", "32"], "95.6 %"),
        ("cycada-usps-mnist", "usps", "mnist", ["--size", "32"], "96.5 %"),
    ],
    "seuda": [
        ("seuda-usps-mnist", "usps", "mnist", ["--target-labels"], "90 % of the gap"),
        ("seuda-organs", "organs-a", "organs-b", ["--task", "segment", "--target-labels"], "90 % of the gap"),
    ],
    "simgan": [
        ("simgan", "rendered-b", "mnist", ["--target-labels"], "10 points, or half of the gap"),
        ("simgan-no-history", "rendered-b", "mnist", ["--history", "0"], "below the run with history"),
        ("simgan-style-a", "rendered", "mnist", ["--target-labels"], "10 points, or half of the gap"),
    ],
    "dann": [
        ("dann-mnist-usps", "mnist", "usps", [], "91.1 %, as French et al. 2018 cite it"),
        ("dann-usps-mnist", "usps", "mnist", [], "74.0 %, as French et al. 2018 cite it"),
    ],
    "self-ensembling": [
        ("self-ensembling-mnist-usps", "mnist", "usps", [], "98.2 %"),
        ("self-ensembling-usps-mnist", "usps", "mnist", [], "99.5 %"),
    ],
    "mnist-m": [
        ("seuda-mnist-m", "mnist", "mnist-m", ["--size", "32"], "77 % to 98 %"),
        ("adda-mnist-m", "mnist", "mnist-m", ["--size", "32"], "77 % to 98 %"),
        ("dann-mnist-m", "mnist", "mnist-m", ["--size", "32"], "76.7 %"),
        ("self-ensembling-mnist-m", "mnist", "mnist-m", ["--size", "32"], "77 % to 98 %"),
    ],
}

# row -> options to choose among, the first being the defaults
CHOICES = {
    "adda": [[], ["--shift", "0"], ["--steps", "2500"]],
    "cycada": [[], ["--steps", "1000"]],
    "seuda": [[], ["--semantic", "0"]],
    "dann": [[], ["--steps", "2500"]],
    "self-ensembling": [[], ["--confidence", "0.9"]],
    "simgan": [[], ["--regularization", "0.5"], ["--regularization", "0.1"]],
    "mnist-m": [[], ["--steps", "2500"]],
}
CHOOSING, WORSE = 100, 0.01  # the first seed; by how much a source model may be worse on what was held out


def blend(mnist: Path, photos: Path, output: Path) -> None:
    """MNIST-M (Ganin et al. 2016): |patch - digit| with a patch of a photograph for each digit, in color."""
    papers = [image_io.read(path) for path in find_images([str(photos)]).paths]
    for number, part in enumerate(("train", "test")):
        folder, random = ClassFolder.open(mnist / part), generator(0, number)
        for path in folder.paths:
            digit = image_io.read(path).short()
            paper = papers[int(torch.randint(len(papers), (1,), generator=random))]
            top, left = (int(torch.randint(side - 27, (1,), generator=random)) for side in paper.shape[1:])
            patch = image_io.to_bytes(paper[:, top : top + 28, left : left + 28]).short()
            target = output / part / path.relative_to(mnist / part)
            image_io.write((patch - digit).abs().to(torch.uint8), target, flush=False)


def adapt(words: list) -> dict:
    """The result of `mlcli adapt` with these words."""
    command = [sys.executable, "-m", "mlcli.cli", "adapt", *map(str, words), "--resume", "--format", "json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def choose(row: str, name: str, words: list, output: Path) -> None:
    """Try the options of a row without any label of the target and say which to take."""
    tried = {}
    for options in CHOICES[row]:
        title, began = " ".join(options) or "defaults", time.monotonic()
        folder = output / "choosing" / "-".join([name, *(word.strip("-") for word in options)])
        held_out = ["--hold-out", "0.1", "--select", "im", "--seed", CHOOSING, "-o", folder]
        result = adapt([*words, *options, *held_out])
        best = [max(each["score"] for each in selection["candidates"]) for selection in result["selection"]]
        tried[title] = (result["held_out"]["mean"], statistics.mean(best))
        print(
            f"{name}, {title}: criterion {tried[title][1]:.4f} {[round(each, 4) for each in best]}; source model on "
            f"what was held out {tried[title][0]:.2%}; {time.monotonic() - began:.0f} s",
            flush=True,
        )
    least = max(accuracy for accuracy, _ in tried.values()) - WORSE
    taken = max((criterion, title) for title, (accuracy, criterion) in tried.items() if accuracy >= least)
    print(f"  to be taken: {taken[1]}", flush=True)


def main() -> None:
    own, passed = sys.argv[1:], []
    if "--" in own:
        own, passed = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--only", help="one run of the row, by its name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=Path, help="photographs for mnist-m, such as bsds_train")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="choose options, without labels of the target")
    options = parser.parse_args(own)
    if options.row == "mnist-m" and not (options.data / "mnist-m").exists():
        blend(options.data / "mnist", options.photos, options.data / "mnist-m.part")
        (options.data / "mnist-m.part").rename(options.data / "mnist-m")
    for name, source, target, extra, bar in ROWS[options.row]:
        if options.only and name != options.only:
            continue
        sets = [options.data / source / "train", options.data / target / "train"]
        sets[0] = sets[0] if sets[0].exists() else options.data / source
        method = next(each for each in METHODS if name.startswith(each))
        words = ["--method", method, *sets, "--seeds", options.seeds, *extra, *passed]
        if options.choose:
            choose(options.row, name, [word for word in words if word != "--target-labels"], options.output)
            continue
        words += ["--test", options.data / target / "test", "-o", options.output / name]
        began = time.monotonic()
        result = adapt(words)
        print("mlcli adapt", *words, "--resume", "--format", "json")
        for row, entry in result.items():
            if isinstance(entry, dict) and "interval" in entry:
                spread = "" if entry["sd"] is None else f" +- {100 * entry['sd']:.1f}"
                print(f"  {row}: {100 * entry['mean']:.1f}{spread}  {[round(100 * run, 1) for run in entry['runs']]}")
        print(f"  gap closed: {result['gap_closed']}; label flips: {result.get('label_flip_rate')}")
        print(f"  to be reached: {bar}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

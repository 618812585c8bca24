"""The figures of `mlcli adapt` against the published ones.

    python tests/benchmarks/adaptation.py adda --data DATA -o runs --seeds 3

DATA holds mnist/{train,test} and usps/{train,test} as class folders, and what `mlcli render` makes:

    mlcli render digits -n 5000 -o DATA/rendered
    mlcli render digits -n 20000 --look b -o DATA/rendered-b
    mlcli render organs -n 400 -o DATA/organs-a
    mlcli render organs -n 400 --look b --seed 1 -o DATA/organs-b/train
    mlcli render organs -n 200 --look b --seed 2 -o DATA/organs-b/test

Rows: adda (2,000 MNIST and 1,800 USPS pictures, Tzeng et al. 2017), cycada (full training sets, Hoffman et al. 2018),
seuda (USPS to MNIST, and organs under two scanners), simgan (drawn hairlines to MNIST, the same without history, and
from digits that look like MNIST's already), mnist-m (--photos: what the digits are blended with). Prints for each
direction the command, source only and adapted, what is to be reached, and the seconds. A run that is there already is
gone on with. What follows `--` goes to `mlcli adapt` as it is, such as fewer steps.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from mlcli.engine import images
from mlcli.engine.folders import ClassFolder, find_images
from mlcli.engine.runtime import generator

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
        ("simgan-look-a", "rendered", "mnist", ["--target-labels"], "10 points, or half of the gap"),
    ],
    "mnist-m": [
        ("seuda-mnist-m", "mnist", "mnist-m", ["--size", "32"], "77 % to 98 %"),
        ("adda-mnist-m", "mnist", "mnist-m", ["--size", "32"], "77 % to 98 %"),
    ],
}


def blend(mnist: Path, photos: Path, output: Path) -> None:
    """MNIST-M (Ganin et al. 2016): |patch - digit| with a patch of a photograph for each digit, in colour."""
    papers = [images.read(path) for path in find_images([str(photos)]).paths]
    for number, part in enumerate(("train", "test")):
        folder, random = ClassFolder.open(mnist / part), generator(0, number)
        for path in folder.paths:
            digit = images.read(path).short()
            paper = papers[int(torch.randint(len(papers), (1,), generator=random))]
            top, left = (int(torch.randint(side - 27, (1,), generator=random)) for side in paper.shape[1:])
            patch = images.to_bytes(paper[:, top : top + 28, left : left + 28]).short()
            place = output / part / path.relative_to(mnist / part)
            images.write((patch - digit).abs().to(torch.uint8), place, flush=False)


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
    options = parser.parse_args(own)
    if options.row == "mnist-m" and not (options.data / "mnist-m").exists():
        blend(options.data / "mnist", options.photos, options.data / "mnist-m.part")
        (options.data / "mnist-m.part").rename(options.data / "mnist-m")
    for name, source, target, extra, bar in ROWS[options.row]:
        if options.only and name != options.only:
            continue
        method = name.split("-")[0]
        sets = [options.data / source / "train", options.data / target / "train"]
        sets[0] = sets[0] if sets[0].exists() else options.data / source
        command = ["mlcli", "adapt", "--method", method, *sets, "--test", options.data / target / "test"]
        command += ["-o", options.output / name, "--seeds", options.seeds, *extra, *passed]
        words = [*map(str, command), "--resume", "--format", "json"]
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "mlcli.cli", *words[1:]], stdout=subprocess.PIPE, check=True)
        result = json.loads(done.stdout)
        print(" ".join(words))
        for row, entry in result.items():
            if isinstance(entry, dict) and "interval" in entry:
                spread = "" if entry["sd"] is None else f" +- {100 * entry['sd']:.1f}"
                print(f"  {row}: {100 * entry['mean']:.1f}{spread}  {[round(100 * run, 1) for run in entry['runs']]}")
        print(f"  gap closed: {result['gap_closed']}; label flips: {result.get('label_flip_rate')}")
        print(f"  to be reached: {bar}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

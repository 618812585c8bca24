"""What a network learns from images without labels: rotation on CIFAR-10, linear probes of 1,000 labels.

    python tests/benchmarks/pretext.py cifar10 [--epochs 10] [--task rotation] [--labels 1000] [-o runs/rotation]

`mlcli pretext` on cifar10/train, of which the class folders are never read; then a linear classifier of each layer from
so many labeled training images, tested on all of cifar10/test, beside the same on a network with random weights.
After an interruption the same command resumes.
"""

import argparse
import json
from pathlib import Path

from typer.testing import CliRunner

from mlcli import cli


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="rotation")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/rotation"))
    arguments = parser.parse_args()
    train, test = arguments.data / "train", arguments.data / "test"
    command = ["pretext", train, "--task", arguments.task, "--epochs", arguments.epochs, "--seed", arguments.seed]
    command += ["--probe", train, "--labels", arguments.labels, "--val", test, "-o", arguments.output, "--resume"]
    done = CliRunner().invoke(cli.build(), list(map(str, command)), catch_exceptions=False)
    if done.exit_code:
        raise SystemExit(done.output)
    results = json.loads((arguments.output / "results.json").read_text())
    for name, value in results["probes"].items():
        print(f"{name:10} {value:7.2%}   untrained {results['probes of an untrained network'][name]:7.2%}")
    gain = 100 * (results["accuracy"] - results["untrained"])
    print(f"best layer {results['best layer']}: {gain:.1f} points over that of an untrained network")


if __name__ == "__main__":
    main()

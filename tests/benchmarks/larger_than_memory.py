"""Training on a data set four times as large as the memory allowed for it: how fast, beside one that is in memory.

    python tests/benchmarks/larger_than_memory.py [--images 8000] [--size 128] [--rounds 2] [--model smallnet]

Draws JPEGs of noise over colors, in two classes, trains on them with all in memory and with `--cache-memory` of a
quarter of their decoded size, alternately, and compares the models, which must be equal to the last byte. The smaller
the network, the more of a step is reading. Prints seconds of a step after the first epoch, and the largest anonymous
memory of the process (RssAnon), to which the mapped file does not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli import ENVIRONMENT

COLORS = {"blue": (60, 80, 180), "red": (180, 80, 60)}


def draw(root: Path, count: int, size: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        name = sorted(COLORS)[number % 2]
        (root / name).mkdir(parents=True, exist_ok=True)
        pixels = np.array(COLORS[name]) + random.normal(0, 30, (size, size, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{number:06d}.jpg")


def anonymous_megabytes(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def trained(data: Path, run: Path, gigabytes: float, options: argparse.Namespace) -> tuple[float, float, bytes]:
    """(seconds of a step, megabytes, the weights)."""
    words = [sys.executable, "-m", "mlcli.cli", "train", data, "--model", options.model, "--size", options.size]
    words += ["--epochs", 3, "--batch-size", 64, "--optimizer", "sgd", "--cache-memory", gigabytes, "-o", run]
    process = subprocess.Popen(list(map(os.fspath, map(str, words))), env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    most = 0.0
    while process.poll() is None:
        most = max(most, anonymous_megabytes(process.pid))
        time.sleep(0.02)
    assert process.returncode == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seconds = (lines[-1]["seconds"] - lines[0]["seconds"]) / (lines[-1]["step"] - lines[0]["step"])
    return seconds, most, (run / "model.safetensors").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="smallnet")
    options = parser.parse_args()
    decoded = options.images * 3 * options.size**2 / 1e9
    ways = {"in memory": decoded + 1, "on disk": decoded / 4}
    with tempfile.TemporaryDirectory(dir=".") as folder:
        draw(Path(folder) / "data", options.images, options.size)
        found: dict[str, list[tuple[float, float, bytes]]] = {way: [] for way in ways}
        for number in range(options.rounds):
            for way, gigabytes in ways.items():
                found[way].append(trained(Path(folder, "data"), Path(folder, f"{way}-{number}"), gigabytes, options))
    print(f"{options.images} images, {decoded:.3g} GB decoded, {options.model}")
    for way, results in found.items():
        seconds, most = (statistics.median(result[index] for result in results) for index in (0, 1))
        print(f"{way:10} --cache-memory {ways[way]:.3g}: {seconds:.4f} s a step, {most:.0f} MB")
    ratio = [one[0] / two[0] for one, two in zip(found["in memory"], found["on disk"], strict=True)]
    print(f"speed on disk / in memory: {statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})")
    weights = {result[2] for results in found.values() for result in results}
    print("the models are equal" if len(weights) == 1 else "THE MODELS DIFFER")
    sys.exit(len(weights) > 1)


if __name__ == "__main__":
    main()

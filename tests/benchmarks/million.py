"""Very many images through a command that writes rows as it goes: its memory, and SIGKILLs with --resume.

    python -m tests.benchmarks.million [--images 1000000] [--kills 10] [--command classify] [--format jsonl] [--seed 0]

The images are hard links to a few small ones, in folders of FOLDER links; the network is a small one with random
weights. An unbroken run tells its resident memory when each tenth of the rows is written. The same command is then
killed, at random times of which a third fall anywhere, its start included, and resumed; its bytes are compared with
those of the unbroken run. Prints a line for each, and the largest memory; the exit status is 1 where bytes differ.
"""

import argparse
import filecmp
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mlcli.api import row_files
from mlcli.models import registry
from mlcli.training import run_folder
from tests.cli import ENVIRONMENT

FOLDER = 10_000  # links in a folder
LINKS = 50_000  # to one file; file systems allow some more
SIDE = 16


def make_images(root: Path, count: int) -> None:
    """COUNT hard links, of which every 9,973rd is to a broken file."""
    random_pixels = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"{number // FOLDER:04d}"
        if number % FOLDER == 0:
            folder.mkdir(parents=True)
        file = root.parent / f"source-{number // LINKS}.png"
        if number % LINKS == 0:
            Image.fromarray(random_pixels.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file)
            (root.parent / "broken.png").write_bytes(b"")
        os.link(root.parent / "broken.png" if number % 9_973 == 9_972 else file, folder / f"{number:07d}.png")


def make_model(folder: Path) -> Path:
    """A small network with random weights, as a run folder."""
    torch.manual_seed(0)
    model = registry.create("lenet", ["blue", "green", "red"], SIDE)
    folder.mkdir()
    run_folder.save_tensors(folder / "model.safetensors", model.network.state_dict(), model.describe())
    (folder / "config.json").write_text("{}")
    return folder


def memory(process: int, what: str) -> float:
    """Resident memory of a process now (VmRSS) or at most (VmHWM), in MB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), 0.0)


def written(output: Path) -> int:
    """The images whose rows the record calls safe."""
    try:
        return json.loads(row_files.record_of(row_files.growing(output, output.suffix[1:])).read_text())["images"]
    except (OSError, ValueError):
        return 0


def watched(process: subprocess.Popen, output: Path) -> Iterator[int]:
    """The number of written images, again and again until the process ends."""
    while process.poll() is None:
        yield written(output)
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--command", default="classify", choices=("classify", "embed"))
    parser.add_argument("--format", default="jsonl", choices=row_files.STREAMED)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        make_images(root / "images", options.images)
        model = make_model(root / "model")

        def started(output: Path) -> subprocess.Popen:
            words = [options.command, root / "images", "--model", model, "--format", options.format, "-o", output, "-q"]
            words += ["--batch-size", "100", "--resume"]
            line = [sys.executable, "-m", "mlcli.cli", *map(str, words)]
            return subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.DEVNULL)

        whole, broken = (root / f"{name}.{options.format}" for name in ("whole", "broken"))
        began, process, tenths, peak, last = time.monotonic(), started(whole), 0, 0.0, 0.0
        for images in watched(process, whole):
            last = memory(process.pid, "VmRSS") or last
            peak = memory(process.pid, "VmHWM") or peak
            if images >= (tenths + 1) * options.images / 10:
                tenths = images * 10 // options.images
                print(f"{images:,} images: {last:,.0f} MB", flush=True)
        seconds = time.monotonic() - began
        print(f"unbroken: status {process.returncode}, {seconds:.0f} s, {peak:,.0f} MB at most, its end included")

        kills = []
        while True:
            process, before = started(broken), written(broken)
            if len(kills) < options.kills:
                if len(kills) % 3 == 0:
                    time.sleep(chance.uniform(0, seconds / options.kills))
                else:
                    wanted = before + chance.uniform(0, options.images / options.kills)
                    for images in watched(process, broken):
                        if images > wanted:
                            break
                    time.sleep(chance.uniform(0, row_files.SECONDS / 2))
                process.send_signal(signal.SIGKILL)
            status = process.wait()
            if status != -signal.SIGKILL:
                break
            kills.append(written(broken))
        same = all(
            filecmp.cmp(*pair, shallow=False) for pair in ((whole, broken), map(row_files.record_of, (whole, broken)))
        )
        print(f"{len(kills)} kills, with {', '.join(f'{images:,}' for images in kills)} images safe; status {status}")
        print("the same bytes" if same else "DIFFERENT BYTES")
        return int(not same)


if __name__ == "__main__":
    sys.exit(main())

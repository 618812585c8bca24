"""SIGKILLs at random times: whether a resumed run equals one that was never killed, to the last byte.

    python -m tests.benchmarks.kills [COMMAND...] [--count 80] [--seed 0] [--folder FOLDER]

Each round kills a command a few times, every time in an empty or half-finished folder of its own, then lets it end and
compares all files with those of a run that was never killed. Half of the kills fall at a random time, the others right
before a random one of the operations that change files, so that the first and the last instants are hit as often as the
long ones between. Counts, beside kills: rounds; mismatches, files that differ; failures, rounds that did not end well;
lost, kills after which less of the finished work was there than before; left, temporary files and locks in the end.
Prints a line for each command after each round, so that it can be stopped at any time and continued with another seed.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open

from tests import drawn, killing, shapes, tiny
from tests.cli import ENVIRONMENT

FP32 = ["--precision", "fp32"]
RESUMED = ["--resume", "--save-every", "0"]
SMALL = ["--size", "16", "--filters", "4", "--discriminator-filters", "4", "--layers", "1", "--norm", "instance", *FP32]
ADAPT = ["--test", "shapes/test", "--source-steps", "8", "--steps", "6", "--batch-size", "12", "--candidates", "3"]
ADAPT += [*FP32, *RESUMED]
FINETUNE = ["finetune", "squares", "--model", "cifarnet", "-o", "out", *FP32, *RESUMED]
SIAMESE = ["siamese-train", "identities", "-o", "out", "--val", "0.3", "--size", "16"]
STYLIZE = ["--style", "styles/0.png", "--scales", "16,24", "--steps", "3,2", *RESUMED]
COMMANDS = {
    "train": ["train", "squares", "-o", "out", "--epochs", "3", "--batch-size", "12", *FP32, *RESUMED],
    "finetune": FINETUNE,
    "finetune-deep": [*FINETUNE, "--val", "0.3", "--freeze", "conv3", "--epochs", "2"],
    "pretext": ["pretext", "squares", "-o", "out", "--epochs", "2", "--batch-size", "12", "--probe", "squares"]
    + ["--labels", "12", *FP32, *RESUMED],
    "siamese-train": [*SIAMESE, "--steps", "8", "--identities", "4", "--images-per-identity", "3"]
    + ["--dimension", "8", *FP32, *RESUMED],
    "siamese-fisher": [*SIAMESE, "--loss", "fisher", "--model", "cifarnet", *RESUMED],
    "gan": ["gan", "squares", "-o", "out", "--filters", "4", "--latent", "8", "--batch-size", "12", "--steps", "8"]
    + ["--evaluate-every", "4", "--compared", "12", *FP32, *RESUMED],
    "pix2pix": ["pix2pix", "drawn", "-o", "out", "--steps", "8", *SMALL, *RESUMED],
    "cyclegan": ["cyclegan", "drawn/A", "drawn/B", "-o", "out", "--steps", "6", "--pool", "2", "--generator", "unet"]
    + [*SMALL, *RESUMED],
    "adda": ["adapt", "--method", "adda", "shapes/source", "shapes/target", "-o", "out", *ADAPT],
    "adda-dann": ["adapt", "--method", "adda,dann", "shapes/source", "shapes/target", "-o", "out", *ADAPT],
    "dann": ["adapt", "--method", "dann", "shapes/source", "shapes/target", "-o", "out", *ADAPT],
    "self-ensembling": ["adapt", "--method", "self-ensembling", "shapes/source", "shapes/target", "-o", "out", *ADAPT],
    "shot": ["adapt", "--method", "shot", "shapes/source", "shapes/target", "-o", "out", *ADAPT],
    "simgan": ["adapt", "--method", "simgan", "shapes/source", "shapes/target", "-o", "out", "--filters", "4", *ADAPT],
    "cycada": ["adapt", "--method", "cycada", "shapes/source", "shapes/target", "-o", "out", "--filters", "4"]
    + ["--pixel-steps", "4", *ADAPT],
    "seuda": ["adapt", "--method", "seuda", "shapes/source", "shapes/target", "-o", "out", "--filters", "4", *ADAPT],
    "pendulum-train": [
        "pendulum-train",
        "-o",
        "out",
        "--episodes",
        "2",
        "--hidden",
        "4",
        "--batch-size",
        "4",
        *RESUMED,
    ],
    "stylize": ["stylize", "styles/1.png", "-o", "out/painted.png", *STYLIZE],
    "stylize-folder": ["stylize", "styles", "-o", "out", *STYLIZE],
    "atlas": ["atlas", "--model", "cifarnet", "--layer", "conv1", "--units", "0-3", "--images", "squares/blue"]
    + ["-o", "out", "--steps", "2", "--batch-size", "4", "--top", "3", "--resume", *FP32],
    "neighbors": ["neighbors", "squares/blue/00.png", "--among", "squares", "--model", "cifarnet", "-o", "out/near.png"]
    + ["--index", "out/index", "--batch-size", "8", "--overwrite"],
    "pairs": ["pairs", "styles", "--make", "edges", "-o", "out"],
}
OWN = (".mlcli-", ".mlcli.")


def write_data(folder: Path) -> None:
    tiny.class_folders(folder / "squares", per_class=12)
    tiny.identities(folder / "identities", [f"{group}/{name}" for group in ("greek", "latin") for name in "abcde"])
    drawn.write(folder / "drawn", 6)
    for number, name in enumerate(("source", "target", "test")):
        shapes.write(folder / "shapes" / name, 24, number, target=number > 0)
    for number in range(3):
        tiny.class_folders(folder / "made", per_class=1, size=32, seed=number)
        (folder / "styles").mkdir(exist_ok=True)
        (folder / "made/red/00.png").rename(folder / f"styles/{number}.png")
    shutil.rmtree(folder / "made")


def content(folder: Path) -> dict[str, object]:
    """name: what is in it, of every file, with the times that it took left out."""
    return {
        re.sub(r"(step-\d+)\.\w+\.pt$", r"\1", file.relative_to(folder).as_posix()): timeless(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.startswith(OWN)
    }


def timeless(file: Path) -> object:
    if file.name == "index":  # the order in which vectors came in is that of the kills
        with safe_open(file, "np") as opened:
            names = opened.get_tensor("names").tobytes().split(b"\0")[:-1]
            vectors = opened.get_tensor("vectors").round(4)
        return {name: vector.tobytes() for name, vector in zip(names, vectors, strict=True)}
    if file.suffix == ".pt":  # equal values can be stored as other bytes
        return values(torch.load(file, map_location="cpu", weights_only=True))
    data = file.read_bytes()
    if file.suffix in (".json", ".jsonl"):
        return re.sub(rb'"seconds": [0-9.]+', b"", data)
    if file.suffix == ".html":
        return re.sub(rb'<tr><th>seconds<td class="n">[0-9.e+-]+', b"", data)
    return data


def values(state: object) -> object:
    """What a state holds, in a form that can be compared."""
    if isinstance(state, torch.Tensor):
        return (str(state.dtype), tuple(state.shape), state.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if isinstance(state, dict):
        return {key: values(value) for key, value in state.items()}
    return [values(value) for value in state] if isinstance(state, (list, tuple)) else repr(state)


def finished_work(folder: Path) -> Counter:
    """How far each part has come: the steps of states, and results that are there."""
    done = Counter()
    for file in folder.rglob("*") if folder.exists() else ():
        if file.name.startswith("step-") and file.suffix == ".pt":
            done[str(file.parent)] = max(done[str(file.parent)], int(file.name[5:13]))
        elif file.parent.name in ("units", "A", "B") and not file.name.startswith(OWN):
            done[str(file)] = 1
    return done


class Trial:
    """One command, killed again and again."""

    def __init__(self, name: str, folder: Path, chance: random.Random):
        self.name, self.command, self.folder, self.chance = name, COMMANDS[name], folder, chance
        self.figures, self.first = Counter(), ""
        self.out = folder / "out"
        began = time.monotonic()
        status, self.operations = self.run()
        if status:
            raise SystemExit(f"{name}: ends with status {status} when nobody kills it")
        self.seconds, self.whole = time.monotonic() - began, content(self.out)

    def run(self, operation: int = 0) -> tuple[int, int]:
        os.chdir(self.folder)
        return killing.ended(self.command, operation)

    def kill(self) -> bool:
        """Run the command until it is killed; False where it came to its end before."""
        os.chdir(self.folder)
        if self.chance.random() < 0.5:
            status = self.run(self.chance.randint(1, self.operations))[0]
        else:
            number = killing.child(self.command)
            end = time.monotonic() + self.chance.uniform(0, self.seconds)
            while not (ended := os.waitpid(number, os.WNOHANG))[0] and time.monotonic() < end:
                time.sleep(0.001)
            if not ended[0]:
                os.kill(number, signal.SIGKILL)
                ended = os.waitpid(number, 0)
            status = ended[1]
        if status not in (0, signal.SIGKILL):
            self.note("failures", f"status {status}")
        return status == signal.SIGKILL

    def round(self) -> None:
        shutil.rmtree(self.out, ignore_errors=True)
        for _ in range(self.chance.randint(1, 4)):
            before = finished_work(self.out)
            self.figures["kills"] += self.kill()
            if any(finished_work(self.out)[part] < done for part, done in before.items()):
                self.note("lost", "less is there than before the kill")
        self.figures["rounds"] += 1
        status, _ = self.run()
        if status:
            self.note("failures", f"status {status}")
        now = content(self.out)
        differing = [name for name in now.keys() | self.whole.keys() if now.get(name) != self.whole.get(name)]
        if differing:
            self.note("mismatches", f"{sorted(differing)}")
        left = [file.name for file in self.out.rglob(".mlcli*")]
        if left:
            self.note("left", f"{left}")

    def note(self, what: str, words: str) -> None:
        """Count what went wrong; keep what was found first, with its folder."""
        self.figures[what] += 1
        print(f"{self.name}: {what}: {words}", flush=True)
        kept = self.folder.parent / f"{self.name}-{what}"
        if not kept.exists():
            shutil.copytree(self.out, kept)

    def line(self) -> str:
        names = ("kills", "rounds", "mismatches", "failures", "lost", "left")
        return f"{self.name:16}" + "".join(f"  {self.figures[name]:4} {name}" for name in names)


def parsed(description: str, names: Iterable[str], count: int, what: str) -> argparse.Namespace:
    """The command line: commands (of `names`, default all), count (of `what`), seed, folder (absolute)."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(names)}; default all")
    parser.add_argument("--count", type=int, default=count, help=f"{what} of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; default a temporary folder")
    given = parser.parse_args()
    if unknown := set(given.commands) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    given.commands = given.commands or list(names)
    given.folder = (given.folder or Path(tempfile.mkdtemp())).resolve()
    return given


def prepared(folder: Path) -> Path:
    """The folder, with the data of the commands and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_data(folder)
    return folder


def main() -> None:
    given = parsed(__doc__, COMMANDS, 80, "kills")
    killing.import_all()
    waiting, total = list(given.commands), Counter()
    trials: dict[str, Trial] = {}
    while waiting:
        for name in list(waiting):
            if name not in trials:
                trials[name] = trial = Trial(name, prepared(given.folder / name), random.Random(f"{given.seed} {name}"))
                print(f"{name}: {trial.seconds:.1f} s, {trial.operations} operations", flush=True)
            trials[name].round()
            print(trials[name].line(), flush=True)
            if trials[name].figures["kills"] >= given.count:
                waiting.remove(name)
                total.update(trials[name].figures)
    print(json.dumps(total), flush=True)
    sys.exit(bool(total["mismatches"] + total["failures"] + total["lost"] + total["left"]))


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # forks of a process with threads hang
        os.execve(sys.executable, sys.orig_argv, ENVIRONMENT)
    main()

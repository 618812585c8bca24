"""Dogs against other animals from twenty photographs of each: `mlcli finetune` on two networks.

    python tests/benchmarks/photographs_finetune.py PHOTOS [--draws 5] [--models efficientnet_lite0 cifarnet]
        [-o RUNS] [--fresh] [-- ...]

PHOTOS holds photographs whose names begin with the WordNet id of what they show, such as n01440764_tench.jpg, one of a
class or more. ImageNet orders its classes by WordNet's tree: 0 to 397 are animals, 151 to 268 of these dogs. Each draw
takes `count` dogs and `count` other animals to learn from, by its seed; the rest are tested. What follows `--` goes to
mlcli finetune. Prints for each model and draw the accuracy and its balanced form, the seconds of the whole command in a
process of its own (start, network, features, last layer, test, report); then means and standard deviations. A draw that
is there already is not run again, and has no seconds.

--fresh: also makes an image of the new class, `mlcli maximize logit:dog --model RUN`, and reports what two networks of
ImageNet's 1,000 classes call it: how many of their first five answers are breeds of dogs.

Not a measure of what a network can do with things it has never seen: efficientnet_lite0 was trained on ImageNet, which
has these classes, and cifarnet on CIFAR-10, of which one class in ten is dogs.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mlcli.data.class_names import WNID, imagenet

ANIMALS, DOGS = range(398), range(151, 269)


def dogs_and_others(photos: Path) -> dict[str, list[Path]]:
    """The photographs of animals, sorted by name."""
    number = {wnid: index for index, wnid in enumerate(imagenet())}
    found: dict[str, list[Path]] = {"dog": [], "other": []}
    for file in sorted(photos.rglob("n*")):
        wnid = WNID.match(file.name)
        if wnid and (index := number.get(wnid[0])) in ANIMALS:
            found["dog" if index in DOGS else "other"].append(file)
    return found


def divided(found: dict[str, list[Path]], count: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """(folder/train, folder/test), links to `count` of each class and to the others."""
    for name, files in found.items():
        chosen = set(random.Random(seed).sample(files, count))
        for file in files:
            link = folder / ("train" if file in chosen else "test") / name / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    return folder / "train", folder / "test"


def finetune(*words) -> tuple[float, float]:
    """The seconds that `mlcli finetune` takes, and those of a processor, which other work changes less."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "mlcli.cli", "finetune", *map(str, words), "--quiet"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fresh(run: Path) -> None:
    """Make the image of the new class and print what networks that know breeds of dogs call it."""
    image = run / "dog.png"
    if not image.is_file():
        command = ["maximize", "logit:dog", "--model", str(run), "-o", str(image), "--quiet"]
        subprocess.run([sys.executable, "-m", "mlcli.cli", *command], check=True)
    for model in ("efficientnet_lite0", "efficientnet_lite2"):
        command = [sys.executable, "-m", "mlcli.cli", "classify", str(image), "--model", model, "--format", "json"]
        (answer,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        best = answer["predictions"]
        dogs = sum(p["index"] in DOGS for p in best)
        print(
            f"  {image}: {model} says {best[0]['label']} {best[0]['probability']:.1%}; {dogs} of 5 are dogs", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--models", nargs="+", default=["efficientnet_lite0", "cifarnet"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/dogs"))
    parser.add_argument("--fresh", action="store_true")
    given = sys.argv[1:]
    own, options = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    arguments = parser.parse_args(own)
    found = dogs_and_others(arguments.photos)
    print({name: len(files) for name, files in found.items()}, f"{arguments.count} of each to learn from")
    for model in arguments.models:
        figures: dict[str, list[float]] = {
            "accuracy": [],
            "balanced_accuracy": [],
            "seconds": [],
            "processor seconds": [],
        }
        for draw in range(arguments.draws):
            train, test = divided(found, arguments.count, draw, arguments.output / f"data-{draw}")
            run = arguments.output / "-".join([model.replace("/", "-"), str(draw), *(o.strip("-") for o in options)])
            if not (run / "results.json").is_file():
                words = [train, "--model", model, "--val", test, "--seed", draw, "-o", run, "--resume", *options]
                for name, value in zip(("seconds", "processor seconds"), finetune(*words), strict=True):
                    figures[name].append(value)
            said = json.loads((run / "results.json").read_text())["validation"]
            for name in ("accuracy", "balanced_accuracy"):
                figures[name].append(said[name])
            times = [f"; {figures[name][-1]:.1f} {name}" for name in figures if "seconds" in name and figures[name]]
            print(f"{model}, draw {draw}: {said['accuracy']:.1%} of {said['count']}, balanced "
                  f"{said['balanced_accuracy']:.1%}{''.join(times)}", flush=True)  # fmt: skip
            if arguments.fresh:
                fresh(run)
        for name, values in figures.items():
            if values:
                unit, factor = ("", 1) if "seconds" in name else (" %", 100)
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                print(f"  {model}, {name}: {factor * statistics.mean(values):.1f}{unit} ± {factor * spread:.1f}")


if __name__ == "__main__":
    main()

"""Photographs against their own renderings: `mlcli adapt` from pretrained weights, without labels of the target.

    python tests/benchmarks/adaptation_photographs.py PHOTOS [--methods shot adda] [--renderings blur edges dark]
        [--seeds 3] [--size 160] -o RUNS [-- ...]

PHOTOS holds photographs whose names begin with the WordNet id of what they show, such as n01440764_tench.jpg, one of a
class or more. Five groups of WordNet's tree are told apart: birds, dogs, other mammals, other animals, and things, of
which no more are taken than of the largest other group. One half of each group is the source, with labels. The other
half, drawn anew, is the target: blur and edges by `mlcli pairs`, dark by dividing the light by twelve and adding noise.
The target's own images are the test, as is usual for photographs; their labels are read for the table alone.

Prints for each rendering and method source only, adapted (the checkpoint chosen without labels), and the bound, the
source model on the photographs of the target as they were; means over the seeds, and how much of the gap is closed.
What follows `--` goes to mlcli adapt. A run that exists is not run again.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from mlcli.data.class_names import WNID, imagenet
from mlcli.imaging import image_io
from mlcli.runtime.random_streams import generator

BIRDS = (range(7, 25), range(80, 101), range(127, 147))
DOGS = (range(151, 269),)
MAMMALS = (range(101, 107), range(147, 151), range(269, 300), range(330, 389))
ANIMALS, THINGS = (range(398),), (range(398, 924),)
GROUPS = {"bird": BIRDS, "dog": DOGS, "mammal": MAMMALS, "animal": ANIMALS, "thing": THINGS}
PAIRS = {"blur": ["--make", "blur", "--strength", "6"], "edges": ["--make", "edges"]}
DARKER, NOISE = 12, 2.0  # how much less light; standard deviation of the noise, in levels of 255


def mlcli(*words) -> str:
    command = [sys.executable, "-m", "mlcli.cli", *map(str, words), "--quiet"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def grouped(photos: Path) -> dict[str, list[Path]]:
    """The photographs of each group, sorted by name."""
    number = {wnid: index for index, wnid in enumerate(imagenet())}
    found: dict[str, list[Path]] = {name: [] for name in GROUPS}
    for file in sorted(photos.rglob("n*")):
        if (wnid := WNID.match(file.name)) and (index := number.get(wnid[0])) is not None:
            names = [name for name, parts in GROUPS.items() if any(index in part for part in parts)]
            if names:
                found[names[0]].append(file)
    most = max(len(files) for name, files in found.items() if name != "thing")
    return found | {"thing": random.Random(0).sample(found["thing"], min(most, len(found["thing"])))}


def divided(found: dict[str, list[Path]], root: Path) -> tuple[Path, Path]:
    """(root/source, root/photographs of the target), each with a folder of links for each group."""
    for name, files in found.items():
        chosen = set(random.Random(1).sample(files, len(files) // 2))
        for file in files:
            link = root / ("source" if file in chosen else "photographs") / name / file.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    return root / "source", root / "photographs"


def rendered(photographs: Path, rendering: str, output: Path) -> Path:
    """The photographs of each group, drawn anew in output/GROUP."""
    for group in sorted(photographs.iterdir()):
        if (output / group.name).is_dir():
            continue
        made = output.parent / f"{rendering}-{group.name}.part"
        if rendering in PAIRS:
            mlcli("pairs", group, *PAIRS[rendering], "-o", made)
            made = made / "A"
        else:
            for number, file in enumerate(sorted(group.iterdir())):
                image = image_io.read(file.resolve()).float() / DARKER
                noise = NOISE * torch.randn(image.shape, generator=generator(0, number))
                dark = (image + noise).round().clamp(0, 255).to(torch.uint8)
                image_io.write(dark, (made / file.name).with_suffix(".png"), flush=False)
        output.mkdir(parents=True, exist_ok=True)
        made.rename(output / group.name)
    return output


def main() -> None:
    own, passed = sys.argv[1:], []
    if "--" in own:
        own, passed = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--methods", nargs="+", default=["shot", "adda"])
    parser.add_argument("--renderings", nargs="+", default=["blur", "edges", "dark"], choices=[*PAIRS, "dark"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(own)
    source, photographs = divided(grouped(options.photos), options.output / "data")
    print({path.name: len(list(path.iterdir())) for path in sorted(source.iterdir())}, flush=True)
    for rendering in options.renderings:
        target = rendered(photographs, rendering, options.output / "data" / rendering)
        for method in options.methods:
            run, began = options.output / f"{method}-{rendering}", time.monotonic()
            words = ["--method", method, source, target, "--test", target, "--model", "efficientnet_lite0"]
            words += ["--pretrained", "--size", options.size, "--seeds", options.seeds, *passed]
            result = json.loads(mlcli("adapt", *words, "-o", run, "--resume", "--format", "json"))
            bound = [
                json.loads(mlcli("classify", photographs, "--evaluate", "--model", model, "--format", "json"))[
                    "accuracy"
                ]
                for model in sorted(run.glob("seed-*/source"))
            ]
            before, after = result["source_only"]["mean"], result["adapted"]["mean"]
            gap = (after - before) / (statistics.mean(bound) - before)
            print(
                f"{rendering}, {method}: source only {before:.1%}, adapted {after:.1%} "
                f"{[round(100 * each, 1) for each in result['adapted']['runs']]}, bound {statistics.mean(bound):.1%}, "
                f"gap closed {gap:.0%}; {time.monotonic() - began:.0f} s; warnings: {result['guards']}",
                flush=True,
            )


if __name__ == "__main__":
    main()

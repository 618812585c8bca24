"""The files, folders and runs that the examples of the pages name, tiny: photos/, cifar10/train, runs/cifar and others.

They are made when an example names them, once, and copied to the folder in which it runs. An example that writes one of
them makes it itself. Paths below samples/ are those of the project.
"""

import functools
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mlcli.models import registry
from tests import drawn, shapes, tiny
from tests.docs.shell import Shell

ROOT = Path(__file__).parents[2]
SAMPLES = [f"samples/{part}" for part in ("photos", "styles", "digits/test", "digits/unlabeled", "tiles.py")]
SAMPLES += [f"samples/{script}.py" for script in ("facades", "scenes", "glyphs")]
FEW = 4  # of the sample digits of a folder
Maker = Callable[[Path], object]

ANIMALS = ("bird", "cat", "dog", "frog", "horse", "ship")
HUES = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60), (60, 200, 200), (200, 60, 200))
OBJECTS = dict(zip(("airplane", "cat", "dog"), HUES, strict=False))  # three of cifarnet's classes
HORSES = dict(zip(("horse", "other"), HUES, strict=False))
DIGITS = {str(number): (50 * number + 40,) * 3 for number in range(4)}
IMAGENET = dict(zip(("n01440764", "n02123045", "n02129604"), HUES, strict=False))
PEOPLE = ("anna", "ben", "carla", "dan", "eva", "finn", "gina", "hugo")


def classes(colors: dict[str, tuple[int, int, int]], seed: int = 0) -> Maker:
    return functools.partial(tiny.class_folders, per_class=6, seed=seed, colors=colors)


def photo(file: Path, seed: int = 0, size: tuple[int, int] = (40, 32)) -> None:
    """A smooth image of random colors."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file)


def photos(folder: Path, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(ANIMALS):
        photo(folder / f"{name}.jpg", seed + number)


def side_by_side(folder: Path) -> None:
    """Pairs of train/ and test/, in folders A/ and B/ of equal names."""
    for part, count in (("train", 6), ("test", 3)):
        drawn.write(folder / part, count)


def portraits(folder: Path) -> None:
    """A folder of images for each person."""
    tiny.identities(folder, PEOPLE)


def scanner(target: bool) -> Maker:
    """images/ and masks/ of equal names."""
    return lambda folder: shapes.write_masks(folder, 12, 1, target)


def part_of_a_scanner(part: str) -> Maker:
    def make(folder: Path) -> None:
        whole = shapes.write_masks(folder.with_name(f".{folder.name}"), 3, 3, True)
        shutil.move(whole / part, folder)
        shutil.rmtree(whole)

    return make


def checkpoint(file: Path) -> None:
    """Weights of a ResNet-50 of three classes, as training scripts write them."""
    with torch.device("meta"):
        network = registry.create("resnet50", list(OBJECTS), 224).network
    torch.save(
        {"state_dict": {key: torch.zeros(t.shape, dtype=t.dtype) for key, t in network.state_dict().items()}}, file
    )


DATA: dict[str, Maker] = {
    "photos": photos,
    "holiday": functools.partial(photos, seed=10),
    "paintings": functools.partial(photos, seed=20),
    "cifar10/train": classes(OBJECTS),
    "cifar10/test": classes(OBJECTS, 1),
    "imagenet/val": classes(IMAGENET),
    "horses": classes(HORSES),
    "horses-test": classes(HORSES, 1),
    "zebras": functools.partial(photos, seed=30),
    "mnist/train": classes(DIGITS),
    "mnist/test": classes(DIGITS, 1),
    "usps/train": classes(DIGITS, 2),
    "usps/test": classes(DIGITS, 3),
    "faces": portraits,
    "staff": portraits,
    "others": portraits,
    "facades": side_by_side,
    "photo-pairs": side_by_side,
    "maps": functools.partial(photos, seed=40),
    "scanner-a": scanner(False),
    "scanner-b": scanner(True),
    "scans": part_of_a_scanner("images"),
    "scans-by-hand": part_of_a_scanner("masks"),
    "checkpoint.pth.tar": checkpoint,
    "names.txt": lambda file: file.write_text("\n".join(OBJECTS) + "\n"),
    "pairs.csv": lambda file: file.write_text("one.jpg,other.jpg\ncat.jpg,dog.jpg\n"),
    "mask.png": lambda file: Image.new("L", (40, 32), 255).save(file),
}
IMAGES = "cat dog photo painted other one brick grass swirls waves portrait door map texture".split()
DATA |= {f"{name}.jpg": functools.partial(photo, seed=100 + number) for number, name in enumerate(IMAGES)}
NEEDED = {"pairs.csv": ("one.jpg", "other.jpg", "cat.jpg", "dog.jpg")}  # by what names them itself
NEEDED |= {"samples/tiles.py": ("samples/photos",)}

# Runs, by the commands that make them, which are made short as those of the examples
RUNS = {
    "runs/cifar": "mlcli train cifar10/train --val cifar10/test",
    "runs/digits": "mlcli gan mnist/train --conditional --gray",
    "runs/mnist": "mlcli train mnist/train --gray",
    "runs/objects": "mlcli gan cifar10/train --flip",
    "runs/horses": "mlcli finetune horses --model cifarnet",
    "runs/rotation": "mlcli pretext cifar10/train",
    "runs/faces": "mlcli siamese-train faces --flip",
    "runs/facades": "mlcli pix2pix facades",
    "runs/published": "mlcli pix2pix photo-pairs",
    "runs/zebras": "mlcli cyclegan horses zebras",
    "runs/usps": "mlcli adapt --method adda mnist/train usps/train --test usps/test",
    "runs/small": "mlcli pendulum-train",
    "runs/scanner-b": "mlcli adapt --method seuda --task segment scanner-a scanner-b --filters 4",
}


class TinyWorld:
    """Makes what is named, each once, in a folder of its own."""

    def __init__(self, folder: Path, shell: Shell):
        self.folder, self.shell = folder, shell

    def provide(self, code: str, folder: Path, *, whole: bool = False) -> None:
        """Put what the code reads into a folder.

        whole: with the samples as they are. Else there are few of the digits, and the photographs are small.
        """
        for name in named(code):
            if (folder / name).exists():
                continue
            few = name.startswith("samples/digits") and not whole
            copy(ROOT / name if name in SAMPLES else self.make(name), folder / name, few=few)
            if name == "samples/photos" and not whole and "samples/tiles.py" not in code:
                for file in (folder / name).iterdir():
                    reduce(file)

    def make(self, name: str) -> Path:
        path = self.folder / name
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in NEEDED.get(name, ()):
            self.make(other)
        if name in DATA:
            DATA[name](path)
        else:
            for other in named(RUNS[name]):
                self.make(other)
            self.shell.run(f"{RUNS[name]} -o {name} --quiet", self.folder)
        return path


def named(code: str) -> Iterable[str]:
    """The names in a piece of code that stand for something here, and that it does not write itself."""
    found = []
    for name in (*DATA, *RUNS, *SAMPLES):
        exact = re.escape(name)
        # As the output of a command, of a script of the samples, or of a rule of make
        written = rf"(?:-o|--output|output=|samples/\w+\.py)[ =]?['\"]?{exact}(?![\w.-])|^{exact}[\w./-]*:"
        read = re.search(rf"(?<![\w./-]){exact}(?![\w-]|\.\w)", code)
        if read and not re.search(written, code, re.MULTILINE):
            found += [name, *NEEDED.get(name, ())]
    return found


def reduce(file: Path) -> None:
    with Image.open(file) as image:
        image.resize((48, 48 * image.height // image.width)).save(file)


def copy(source: Path, target: Path, *, few: bool = False) -> None:
    """Copy a file or a folder. few: of each folder a few files alone."""

    def rest(folder: str, names: list[str]) -> list[str]:
        files = sorted(name for name in names if (Path(folder) / name).is_file())
        return files[FEW:] if few else []

    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, ignore=rest) if source.is_dir() else shutil.copy(source, target)

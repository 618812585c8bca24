"""Finding aligned pairs of images: in two folders under equal names, or side by side in one file."""

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from mlcli.data import class_images, folders
from mlcli.data.class_names import normalized
from mlcli.data.sources import find_images
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.imaging.decoder import size_in_header
from mlcli.io import input_files, tally

PARTS = ("train", "val", "test")
SIDE_BY_SIDE = "side by side"


@dataclass
class Pairing:
    """Aligned pairs of files. With `halves`, one file holds both: A is its left half, B its right half.

    paths: (A, B) for each pair; with `halves` the same file twice. problems: an error for each file without a partner.
    layout: the layout of the data set, in words.
    """

    root: Path
    layout: str
    paths: list[tuple[Path, Path]]
    halves: bool = False
    problems: list[DataError | ImageError] = field(default_factory=list)

    def digest(self) -> str:
        """SHA-256 over names and sizes, to recognize the same list of pairs."""
        return folders.digest([path for pair in self.paths for path in pair], self.root)

    def require_side_by_side(self) -> None:
        """Raise UsageError unless each file is twice as wide as high, as a file that holds a pair of squares is.

        A folder of photographs looks like a folder of side-by-side files, and would be cut into halves. Sizes are read
        from headers; a file without a readable one is left to the decoder.
        """
        for path, _ in self.paths if self.halves else ():
            size = size_in_header(path)
            if size is not None and size[1] != 2 * size[0]:
                raise UsageError(
                    f"{self.root}: no pairs in it; there is no A/ and B/, and {path} ({size[1]} x {size[0]} pixels) is "
                    "not 2:1, as files with both images of a pair side by side are. Put the pairs into two folders, A/ "
                    "and B/, under equal names; make pairs from photographs by "
                    f"`mlcli pairs {shlex.quote(str(self.root))} --make edges -o PAIRS`; or take the left half of each "
                    "file as A and the right half as B by --side-by-side"
                )

    def split(self, fraction: float, seed: int) -> tuple["Pairing", "Pairing"]:
        """(rest, held out): a fraction (0 to 1) of the pairs is held out, drawn by the seed; at least one each."""
        if len(self.paths) < 2:
            raise DataError(f"{self.root}: one pair, too few to hold one out")
        count = min(len(self.paths) - 1, max(1, round(fraction * len(self.paths))))
        order = torch.randperm(len(self.paths), generator=torch.Generator().manual_seed(seed)).tolist()
        held, rest = ([self.paths[i] for i in sorted(part)] for part in (order[:count], order[count:]))
        return replace(self, paths=rest), replace(self, paths=held, problems=[])


def parts(root: str | Path) -> list[str]:
    """Which of the parts train, val and test a data set has; empty where it is not divided."""
    return [part for part in PARTS if any(_is_layout(folders) for _, folders in _layouts(Path(root), part))]


def find_pairs(root: str | Path, part: str | None = None) -> Pairing:
    """The pairs below `root`, or in one of its parts: train, val or test.

    Either two folders, whose images belong together if they have equal paths in them, apart from the endings: A and B,
    or for a part trainA and trainB, train/A and train/B, or A/train and B/train. Or one folder of side-by-side files:
    the root itself, or for a part root/train. Without `part`, the train part of a divided data set, else all pairs.
    Raises DataError where there are no pairs, or more than one of these layouts.
    """
    root = Path(root)
    class_images.require_folder(root, single=True)
    if part is None:
        part = "train" if "train" in parts(root) else ""
    present = [(layout, sides) for layout, sides in _layouts(root, part) if _is_layout(sides)]
    for layout, sides in _layouts(root, part):
        if len(sides) == 2 and input_files.is_folder(sides[0]) != input_files.is_folder(sides[1]):
            raise DataError(f"{root}: of {layout}, one is there and the other is not")
    if len(present) > 1:
        raise DataError(f"{root}: holds {' and '.join(layout for layout, _ in present)}; keep one of them")
    if not present:
        wanted = f"{part}A/ and {part}B/" if part else "A/ and B/"
        raise DataError(f"{root}: no pairs in it; they are in {wanted} under equal names, or side by side in one file")
    layout, sides = present[0]
    if len(sides) == 1:
        found = find_images(sides)
        pairing = Pairing(root, layout, [(path, path) for path in found.paths], True, list(found.problems))
    else:
        pairing = match(root, layout, *sides)
    if not pairing.paths:
        raise DataError(f"{root}: no pairs in it. " + shortened(pairing.problems))
    return pairing


def match(root: Path, layout: str, *roots: Path) -> Pairing:
    """The images of two folders, paired by their paths in them, apart from the endings.

    Names compare after Unicode normalization. Where several names of one folder differ only in their endings (1.jpg and
    1.png) or in their normalization, only files of exactly the same name are paired. `problems` names the others.
    """
    problems: list[DataError | ImageError] = []
    sides: list[dict[str, Path]] = []
    for folder in roots:
        found = find_images([folder])
        problems += found.problems
        sides.append({path.relative_to(folder).as_posix(): path for path in found.paths})
    pairs = {name: (sides[0].pop(name), sides[1].pop(name)) for name in list(sides[0]) if name in sides[1]}
    for key in (normalized, _stem):
        keyed = [_by(key, side) for side in sides]
        for same, names in keyed[0].items():
            partners = keyed[1].get(same, [])
            if len(names) == len(partners) == 1:
                pairs[names[0]] = (sides[0].pop(names[0]), sides[1].pop(partners[0]))
    stems = [_by(_stem, side) for side in sides]
    left: list[DataError | ImageError] = []
    for side, other in ((0, 1), (1, 0)):
        for name, path in sides[side].items():
            stem = _stem(name)
            tally.current().leave_out(path, "image{s} without a partner")
            several = len(stems[side][stem]) > 1 or len(stems[other].get(stem, ())) > 1
            why = f"several images of this name, here or in {roots[other]}, and no telling which belong together"
            left.append(
                DataError(f"{path}: {why if several else f'no image of this name in {roots[other]}'}; left out")
            )
    paths = [pairs[name] for name in sorted(pairs)]
    return Pairing(root, layout, paths, problems=problems + left)


def _stem(name: str) -> str:
    return os.path.splitext(normalized(name))[0]


def _by(key: Callable[[str], str], side: dict[str, Path]) -> dict[str, list[str]]:
    """The names of one side, grouped by `key` of the name."""
    found: dict[str, list[str]] = {}
    for name in side:
        found.setdefault(key(name), []).append(name)
    return found


def _layouts(root: Path, part: str) -> list[tuple[str, list[Path]]]:
    """(the layout in words, its folders) for every layout that a part could have; '' for an undivided data set."""
    if part:
        two = [(f"{part}A", f"{part}B"), (f"{part}/A", f"{part}/B"), (f"A/{part}", f"B/{part}")]
    else:
        two = [("A", "B")]
    one = [] if any(_is_layout([root / a, root / b]) for a, b in two) else [root / part if part else root]
    named = [(f"{a}/ and {b}/", [root / a, root / b]) for a, b in two]
    return named + [(f"{SIDE_BY_SIDE} in {folder.name or folder}/", [folder]) for folder in one]


def _is_layout(folders: Sequence[Path]) -> bool:
    return all(map(input_files.is_folder, folders))


def shortened(problems: Sequence[object], limit: int = 4) -> str:
    """The first few problems in one line, and the number of the others."""
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(map(str, problems[:limit])) + more

"""Which files of a data set are aligned pairs: two folders with equal names, or side-by-side files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from mlcli.data import folders
from mlcli.data.class_names import normalized
from mlcli.data.folders import find_images
from mlcli.errors import DataError, ImageError
from mlcli.io import tally

PARTS = ("train", "val", "test")
SIDE_BY_SIDE = "side by side"


@dataclass
class Pairing:
    """Aligned pairs of files. With `halves`, a file holds both: A is its left half, B its right one.

    paths: (A, B) of each pair, the same file twice with `halves`. problems: one for each file that has no partner.
    layout: where the pairs were found, in words.
    """

    root: Path
    layout: str
    paths: list[tuple[Path, Path]]
    halves: bool = False
    problems: list[DataError | ImageError] = field(default_factory=list)

    def digest(self) -> str:
        """SHA-256 over names and sizes: tells one list of pairs from another."""
        return folders.digest([path for pair in self.paths for path in pair], self.root)

    def split(self, share: float, seed: int) -> tuple["Pairing", "Pairing"]:
        """(rest, held out): the share (0 to 1) of the pairs, at least one to each side, chosen by the seed."""
        if len(self.paths) < 2:
            raise DataError(f"{self.root}: one pair, too few to hold one out")
        count = min(len(self.paths) - 1, max(1, round(share * len(self.paths))))
        order = torch.randperm(len(self.paths), generator=torch.Generator().manual_seed(seed)).tolist()
        held, rest = ([self.paths[i] for i in sorted(part)] for part in (order[:count], order[count:]))
        return replace(self, paths=rest), replace(self, paths=held, problems=[])


def parts(root: str | Path) -> list[str]:
    """Which of train, val and test a data set has; empty where it is not divided."""
    return [part for part in PARTS if any(_is_layout(places) for _, places in _layouts(Path(root), part))]


def find_pairs(root: str | Path, part: str | None = None) -> Pairing:
    """The pairs below `root`; of its train, val or test `part`, where that is named.

    Two folders, whose images belong together by their path in them, the endings of the files aside: A and B, of a
    part trainA and trainB, train/A and train/B, or A/train and B/train. Or one folder of side-by-side files: the root
    itself, of a part root/train. Without `part` it is the train part of a divided set, else all.
    Raises DataError where there are no pairs, or more than one of these layouts.
    """
    root = Path(root)
    if not os.path.isdir(root):
        raise DataError(f"{root}: {'a file, not a' if os.path.exists(root) else 'no such'} folder")
    if part is None:
        part = "train" if "train" in parts(root) else ""
    there = [(layout, places) for layout, places in _layouts(root, part) if _is_layout(places)]
    for layout, places in _layouts(root, part):
        if len(places) == 2 and os.path.isdir(places[0]) != os.path.isdir(places[1]):
            raise DataError(f"{root}: of {layout}, one is there and the other is not")
    if len(there) > 1:
        raise DataError(f"{root}: holds {' and '.join(layout for layout, _ in there)}; keep one of them")
    if not there:
        wanted = f"{part}A/ and {part}B/" if part else "A/ and B/"
        raise DataError(f"{root}: no pairs in it; they are in {wanted} under equal names, or side by side in one file")
    layout, places = there[0]
    if len(places) == 1:
        found = find_images(places)
        pairing = Pairing(root, layout, [(path, path) for path in found.paths], True, list(found.problems))
    else:
        pairing = match(root, layout, *places)
    if not pairing.paths:
        raise DataError(f"{root}: no pairs in it. " + shortened(pairing.problems))
    return pairing


def match(root: Path, layout: str, *roots: Path) -> Pairing:
    """The images of two folders by their path inside, the endings aside; those without partner in `problems`.

    Names compare after Unicode normalization. Where names differ only in their endings (1.jpg and 1.png in one folder)
    or in their normalization, files of the very same name belong together, and for the rest there is no telling.
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
    left = []
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
    """The names of one side by what `key` makes of them."""
    found: dict[str, list[str]] = {}
    for name in side:
        found.setdefault(key(name), []).append(name)
    return found


def _layouts(root: Path, part: str) -> list[tuple[str, list[Path]]]:
    """(in words, folders) of every place where the pairs of a part could be; '' for a set that is not divided."""
    if part:
        two = [(f"{part}A", f"{part}B"), (f"{part}/A", f"{part}/B"), (f"A/{part}", f"B/{part}")]
    else:
        two = [("A", "B")]
    one = [] if any(_is_layout([root / a, root / b]) for a, b in two) else [root / part if part else root]
    named = [(f"{a}/ and {b}/", [root / a, root / b]) for a, b in two]
    return named + [(f"{SIDE_BY_SIDE} in {place.name or place}/", [place]) for place in one]


def _is_layout(places: Sequence[Path]) -> bool:
    return all(os.path.isdir(place) for place in places)


def shortened(problems: Sequence[Exception], limit: int = 4) -> str:
    """The first few in one line, and how many there are more."""
    more = f"; and {len(problems) - limit} more" if len(problems) > limit else ""
    return "; ".join(map(str, problems[:limit])) + more

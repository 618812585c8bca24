"""Data sets of identities: one folder of images for each person, character or object, perhaps in groups."""

import os
from pathlib import Path, PurePath

import torch
from torch import Tensor

from mlcli.counting import counted
from mlcli.data import class_images
from mlcli.data.class_names import normalized
from mlcli.data.folders import ClassFolder, beside_folders, refuse_divided
from mlcli.data.sources import find_images
from mlcli.errors import DataError
from mlcli.runtime.random_streams import rng


def open_identities(root: str | os.PathLike[str], *, loose: bool = False) -> tuple[ClassFolder, list[Exception]]:
    """(the images below `root` by identity; what was left out and why).

    An identity is a folder that holds images, with all that is below it; its name is its path in `root`, as in
    `Greek/character07`, whose group is Greek. Names compare after Unicode normalization. An image in no folder is
    left out or, if `loose`, belongs to the identity that its name without the ending gives. Raises DataError where
    there is no such folder or no identity in it, and DividedError where its folders are the parts of a data set.
    """
    root = Path(root)
    class_images.require_folder(root, single=True)
    found = find_images([root])
    problems: list[Exception] = list(found.problems)
    folders = {path.parent for path in found.paths} - {root}
    top = sorted({path.relative_to(root).parts[0] for path in found.paths if path.parent != root})
    refuse_divided(root, top)
    identities: dict[str, list[Path]] = {}
    spelled: dict[str, str] = {}  # the name of an identity, by its normalized form
    beside = []
    for path in found.paths:
        above = [parent for parent in path.parents if parent in folders]
        if above or loose:
            name = above[-1].relative_to(root).as_posix() if above else path.stem
            identities.setdefault(spelled.setdefault(normalized(name), name), []).append(path)
        else:
            beside.append(path.name)
    if beside:
        problems.append(beside_folders(root, beside, "identity's"))
    if not identities:
        raise DataError(f"{root}: no folders with images in it; put the images of each identity into one")
    names = tuple(sorted(identities))
    paths = [path for name in names for path in identities[name]]
    labels = [label for label, name in enumerate(names) for _ in identities[name]]
    return ClassFolder(root, names, paths, labels), problems


def group(name: str) -> str:
    """The group of an identity: the path of the folder that contains its folder, '' if there is none."""
    parent = PurePath(name).parent.as_posix()
    return "" if parent == "." else parent


def hold_out(folder: ClassFolder, fraction: float, seed: int) -> tuple[ClassFolder, ClassFolder]:
    """(rest, held out): whole identities, a fraction of which is held out, drawn by the seed; at least two each.

    Identities with one image, in which there is no pair to compare, are never held out. Raises DataError where the
    others do not suffice.
    """
    counts = torch.tensor(folder.labels).bincount(minlength=len(folder.classes))
    several = (counts > 1).nonzero()[:, 0]
    if len(several) < 4:
        raise DataError(
            f"{folder.root}: {counted(len(several), 'identity')} with two images or more, too few to hold some "
            "out; four are needed, or name a folder of others with --val"
        )
    count = min(len(several) - 2, max(2, round(fraction * len(several))))
    held = set(several[torch.randperm(len(several), generator=rng(seed, "identities/held-out"))[:count]].tolist())
    rest, held_out = (
        _only(folder, [n for n in range(len(folder.classes)) if (n in held) == side]) for side in (False, True)
    )
    return rest, held_out


def _only(folder: ClassFolder, identities: list[int]) -> ClassFolder:
    """The data set with these identities alone, renumbered."""
    index = {old: new for new, old in enumerate(identities)}
    kept = [(path, index[label]) for path, label in zip(folder.paths, folder.labels, strict=True) if label in index]
    names = tuple(folder.classes[old] for old in identities)
    return ClassFolder(folder.root, names, [path for path, _ in kept], [label for _, label in kept])


def folds(identities: Tensor, count: int, seed: int) -> Tensor:
    """(N,): the fold of each image, by its identity (N,); whole identities are drawn by the seed.

    There are at most `count` folds. Each has two identities with two images or more, or there would be nothing to
    compare; identities with one image are dealt out evenly. Raises DataError where there are too few for two folds.
    """
    present, counts = identities.unique(return_counts=True)
    several = present[counts > 1]
    count = min(count, len(several) // 2)
    if count < 2:
        raise DataError(
            f"{counted(len(several), 'identity')} with two images or more, too few to hold some out in "
            "turn; four are needed, or name a folder of others with --val"
        )
    drawn = torch.randperm(len(several), generator=rng(seed, "identities/held-out"))
    order = torch.cat([several[drawn], present[counts < 2]])
    fold_of = torch.empty(int(identities.max()) + 1, dtype=torch.int64)
    fold_of[order] = torch.arange(len(order)) % count
    return fold_of[identities]

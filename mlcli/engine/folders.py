"""Folders of pictures: which files there are, what class each has, and decoding them in threads."""

import difflib
import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch
from torch import Tensor

from mlcli.engine import images
from mlcli.errors import DataError, ImageError, UsageError

T = TypeVar("T")

# ---------------------------------------------------------------------------------------------- finding


@dataclass
class Found:
    """What `find_images` met: the pictures in order, and the folders that could not be listed."""

    paths: list[Path] = field(default_factory=list)
    problems: list[ImageError] = field(default_factory=list)


def find_images(inputs: Sequence[str | Path], *, stdin: BinaryIO | None = None) -> Found:
    """The pictures that `inputs` name, in the order given, none twice.

    A file is taken whatever its ending, and even if it is not there: `images.read` says so later, by name.
    A folder is walked recursively, linked folders and link loops included; hidden names (leading dot) are
    skipped, endings outside `images.EXTENSIONS` too; its pictures are sorted by their path inside it. `-`
    stands for the paths on `stdin` (default: the process's), one a line or NUL-separated.
    """
    found = Found()
    for given in inputs:
        if not str(given):
            # an unset variable of a script, which Path takes for the current folder
            raise UsageError("an empty name among the images; name files or folders, or . for this folder")
        for path in _from_stdin(stdin) if str(given) == "-" else [Path(given)]:
            if os.path.isdir(path):  # which takes a name that is too long for "no", unlike Path.is_dir
                found.paths += _walk(path, found.problems)
            else:
                found.paths.append(path)
    first: dict[Path, Path] = {}
    for path in found.paths:
        first.setdefault(path.absolute(), path)
    found.paths = list(first.values())
    return found


def places(paths: Sequence[str | Path], among: Sequence[str | Path]) -> Tensor:
    """(N,) int64: the place of each path's file in `among`, -1 where it is not there.

    A folder reached by a link is the same folder, and a link given among `paths` is the file that it leads to.
    """
    real_folder = cache(os.path.realpath)

    def plain(path: str | Path) -> str:
        folder, name = os.path.split(os.path.abspath(path))
        return os.path.join(real_folder(folder), name)

    known = {plain(path): place for place, path in reversed(list(enumerate(among)))}
    return torch.tensor(
        [known.get(plain(path), known.get(os.path.realpath(path), -1)) for path in paths], dtype=torch.int64
    )


def _from_stdin(stdin: BinaryIO | None) -> list[Path]:
    data = (stdin or sys.stdin.buffer).read()
    names = data.split(b"\0") if b"\0" in data else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [Path(os.fsdecode(name)) for name in names if name]


def _walk(root: Path, problems: list[ImageError]) -> list[Path]:
    """The pictures below `root`, sorted by their path inside it; what cannot be listed goes to `problems`.

    Each folder is listed once, whatever links lead to it. Links wait until all real folders are done, so a
    picture keeps the name that it has without them.
    """
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    real, links = deque([""]), deque()
    while real or links:
        inside = real.popleft() if real else links.popleft()
        try:
            status = os.stat(root / inside)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / inside) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(ImageError(f"{root / inside}: cannot be listed: {error.strerror or error}"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = os.path.join(inside, entry.name)
            if _is(entry.is_dir):
                (links if entry.is_symlink() else real).append(name)
            elif os.path.splitext(entry.name)[1].lower() in images.EXTENSIONS:
                # A link that leads nowhere stays in the list, so that it is reported; pipes and such do not.
                if _is(entry.is_file) or (entry.is_symlink() and not os.path.exists(entry.path)):
                    names.append(name)
    return [root / name for name in sorted(names)]


def _is(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:  # a link that points at itself
        return False


@dataclass(frozen=True)
class ClassFolder:
    """A labelled data set: a folder with one folder of pictures for each class.

    paths[i] is of class classes[labels[i]].
    """

    root: Path
    classes: tuple[str, ...]
    paths: list[Path]
    labels: list[int]

    @classmethod
    def open(cls, root: str | Path, classes: Sequence[str] | None = None) -> "ClassFolder":
        """List root/CLASS/**. The classes are the folder names, sorted.

        With `classes`, those of a trained model, folders are matched to them by name, and some may be absent.
        Raises DataError if there is no such folder, no class in it, a class without pictures, a folder that
        cannot be listed, or one that is none of `classes`.
        """
        root = Path(root)
        if not os.path.isdir(root):
            raise DataError(f"{root}: {'a file, not a' if os.path.exists(root) else 'no such'} folder")
        try:
            folders = sorted(e.name for e in os.scandir(root) if not e.name.startswith(".") and _is(e.is_dir))
        except OSError as error:
            raise DataError(f"{root}: cannot be listed: {error.strerror or error}") from error
        if not folders:
            raise DataError(f"{root}: no class folders in it; put the pictures of each class into one")
        known = {name: index for index, name in enumerate(folders if classes is None else classes)}
        unknown = [name for name in folders if name not in known]
        if unknown:
            raise DataError(f"{root}: {_nearest(unknown, list(known))}")

        paths: list[Path] = []
        labels: list[int] = []
        empty: list[str] = []
        problems: list[ImageError] = []
        for name in folders:
            inside = _walk(root / name, problems)
            if not inside:
                empty.append(name)
            paths += inside
            labels += [known[name]] * len(inside)
        if problems:
            raise DataError(str(problems[0]))
        if empty:
            raise DataError(f"{root}: no pictures for {_listed(empty)}; add some or remove the folder")
        return cls(root, tuple(known), paths, labels)

    @classmethod
    def of_one(cls, paths: Sequence[str | Path]) -> "ClassFolder":
        """Pictures without labels, as a data set of one class that has no name."""
        paths = [Path(path).absolute() for path in paths]
        return cls(Path(os.path.commonpath([path.parent for path in paths])), ("",), paths, [0] * len(paths))

    def require_classes(self, least: int) -> None:
        """Raise DataError where there are fewer classes."""
        if len(self.classes) < least:
            raise DataError(f"{self.root}: holds {len(self.classes)} class, {least} are needed; one folder a class")

    def split(self, share: float, seed: int, *, keep_single: bool = False) -> tuple["ClassFolder", "ClassFolder"]:
        """(rest, held out): the share (0 to 1) of each class, but at least one picture to each side, by the seed.

        A class of one picture is a DataError, or stays with the rest if `keep_single`.
        """
        random = torch.Generator().manual_seed(seed)
        labels = torch.tensor(self.labels)
        held: set[int] = set()
        for label in labels.unique().tolist():
            members = (labels == label).nonzero()[:, 0]
            if len(members) < 2:
                if keep_single:
                    continue
                raise DataError(f"{self.root}: {self.classes[label]!r} has one picture, too few to hold one out")
            count = min(len(members) - 1, max(1, round(share * len(members))))
            chosen = torch.randperm(len(members), generator=random)[:count]
            held.update(members[chosen].tolist())
        return self.part(i for i in range(len(labels)) if i not in held), self.part(sorted(held))

    def part(self, indices: Iterable[int]) -> "ClassFolder":
        """The same classes with these of the pictures, in this order."""
        indices = list(indices)
        return replace(self, paths=[self.paths[i] for i in indices], labels=[self.labels[i] for i in indices])

    def without(self, labels: Set[int]) -> "ClassFolder":
        """The data set without these classes, the others numbered anew."""
        kept = [label for label in range(len(self.classes)) if label not in labels]
        number = {label: index for index, label in enumerate(kept)}
        part = self.part(index for index, label in enumerate(self.labels) if label in number)
        names, numbers = tuple(self.classes[label] for label in kept), [number[label] for label in part.labels]
        return replace(part, classes=names, labels=numbers)

    def digest(self) -> str:
        """SHA-256 over the names inside the root and the sizes in bytes: tells one list from another."""
        return digest(self.paths, self.root)


def spread(count: int | None, total: int) -> list[int]:
    """At most `count` indices spread evenly over `total`, so that of files sorted by class each has its share."""
    count = total if count is None else min(count, total)
    return [index * total // count for index in range(count)]


def digest(paths: Iterable[Path], root: Path | None = None) -> str:
    """SHA-256 over the names, as they are or inside a root, and the sizes in bytes: tells one list from another."""
    total = hashlib.sha256()
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError:
            size = -1  # a link that leads nowhere
        name = path.relative_to(root) if root else path
        total.update(os.fsencode(name.as_posix()) + b"\0%d\0" % size)
    return total.hexdigest()


def _nearest(unknown: list[str], known: list[str]) -> str:
    near = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.0)
    return f"{_listed(unknown)}: none of the model's {len(known)} classes; nearest to it: {', '.join(near)}"


def _listed(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


# --------------------------------------------------------------------------------------------- decoding


def decode(
    paths: Iterable[str | Path],
    transform: Callable[[Tensor], T] | None = None,
    *,
    workers: int | None = None,
    window: int | None = None,
    read: Callable[[str | Path], T] = images.read,
) -> Iterator[tuple[int, T | ImageError]]:
    """Yield (index, picture) for each path in order, decoded in threads; an ImageError in place of a bad one.

    transform runs in the worker, and may make whatever is wanted of the tensor. workers: default one for each
    processor; 0 decodes in the calling thread. window: at most so many pictures are in flight (default 4 for each
    worker), however slow the consumer, so memory does not grow with the number of paths. Threads serve, since Pillow's
    decoders release the GIL.
    Any exception but an ImageError ends the iteration and propagates.
    """

    def job(path: str | Path) -> T | ImageError:
        try:
            image = read(path)
            return image if transform is None else transform(image)
        except ImageError as error:
            return error

    if workers is None:
        workers = available_processors()
    if workers <= 0:
        yield from ((index, job(path)) for index, path in enumerate(paths))
        return

    window = max(window or 4 * workers, 1)
    pending: deque[tuple[int, Future]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for index, path in enumerate(paths):
            pending.append((index, pool.submit(job, path)))
            if len(pending) >= window:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    finally:  # also when the consumer stops early: drop what has not begun, and wait for nothing
        pool.shutdown(wait=False, cancel_futures=True)


def map_pictures(
    paths: Sequence[Path],
    prepare: Callable[[Tensor], Tensor],
    compute: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    workers: int | None = None,
) -> Iterator[tuple[Path, Tensor | ImageError]]:
    """(path, its row of what `compute` gives for a batch) for each picture in order; an ImageError for a bad one.

    prepare: a picture as read -> (C, H, W), of one shape for all.  compute: (N, C, H, W) -> (N, ...).
    Pictures are decoded in threads while the batches are computed; memory does not grow with their number.
    """
    waiting: list[tuple[Path, Tensor | ImageError]] = []

    def flush() -> Iterator[tuple[Path, Tensor | ImageError]]:
        good = [image for _, image in waiting if not isinstance(image, ImageError)]
        rows = iter(compute(images.stack(good))) if good else iter(())
        for path, image in waiting:
            yield path, image if isinstance(image, ImageError) else next(rows)
        waiting.clear()

    for index, image in decode(paths, prepare, workers=workers, window=2 * batch_size):
        waiting.append((paths[index], image))
        if len(waiting) == batch_size:
            yield from flush()
    yield from flush()


def available_processors() -> int:
    """The processors that this process may run on, which a container or taskset can make fewer."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class PictureSet:
    """Pictures brought to one size for training, held in memory where they fit, else decoded when asked for.

    paths, labels: of the good pictures only, labels int64 or None; problems: an ImageError for each bad one.
    size, channels: each picture is (channels, size, size), uint8, as `prepare` makes it of what was read.
    """

    def __init__(self, paths, labels, problems, *, size, channels, workers, pixels, prepare):
        self.paths: list[Path] = paths
        self.labels: Tensor | None = labels
        self.problems: list[ImageError] = problems
        self.size: int = size
        self.channels: int = channels
        self.workers: int | None = workers
        self.prepare: Callable[[Tensor], Tensor] = prepare
        self.pixels: Tensor | None = pixels  # (N, channels, size, size) uint8; None: decoded on demand

    @classmethod
    def load(
        cls,
        paths: Sequence[str | Path],
        labels: Sequence[int] | None = None,
        *,
        size: int,
        channels: int = 3,
        workers: int | None = None,
        budget_bytes: int = 4 << 30,
        progress: Callable[[int, int], None] | None = None,
        prepare: Callable[[Tensor], Tensor] | None = None,
    ) -> "PictureSet":
        """Decode every picture once, which finds the bad ones, and keep the pixels if all fit `budget_bytes`.

        Each is cut and resized by `images.fit` and its luma taken for channels 1, or all that is done by `prepare`
        ((3, H, W) -> (channels, size, size)); deep sources are rounded to 8 bit.
        progress(done, total) is called after each picture.
        """
        if labels is not None and len(labels) != len(paths):
            raise ValueError(f"{len(paths)} paths and {len(labels)} labels")
        prepare = _reducer(size, channels) if prepare is None else _bytes_of(prepare)
        shape = (len(paths), channels, size, size)
        keep = torch.Size(shape).numel() <= budget_bytes
        pixels = torch.empty(shape, dtype=torch.uint8) if keep else None
        good: list[int] = []
        problems: list[ImageError] = []
        for index, image in decode(paths, prepare, workers=workers):
            if isinstance(image, ImageError):
                problems.append(image)
            else:
                if pixels is not None:
                    pixels[len(good)] = image
                good.append(index)
            if progress is not None:
                progress(index + 1, len(paths))
        return cls(
            [Path(paths[index]) for index in good],
            None if labels is None else torch.tensor([labels[index] for index in good], dtype=torch.int64),
            problems,
            size=size,
            channels=channels,
            workers=workers,
            pixels=None if pixels is None else pixels[: len(good)],
            prepare=prepare,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Tensor) -> Tensor:
        """The pictures at `indices` (B,) as uint8 (B, channels, size, size).

        Raises DataError, naming the file, if one that was good has gone bad since.
        """
        if self.pixels is not None:
            return self.pixels[indices]
        chosen = [self.paths[index] for index in indices.tolist()]
        result = torch.empty((len(chosen), self.channels, self.size, self.size), dtype=torch.uint8)
        for index, image in decode(chosen, self.prepare, workers=self.workers):
            if isinstance(image, ImageError):
                raise DataError(f"{image} (it was whole when this began)")
            result[index] = image
        return result


def _reducer(size: int, channels: int) -> Callable[[Tensor], Tensor]:
    """The way from a picture as read to (channels, size, size) uint8."""
    if channels not in (1, 3):
        raise ValueError(f"a picture has 1 or 3 channels, not {channels}")

    def reduce(image: Tensor) -> Tensor:
        image = images.to_bytes(images.fit(image, size))
        return images.to_gray(image) if channels == 1 else image

    return reduce


def _bytes_of(prepare: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda image: images.to_bytes(prepare(image))

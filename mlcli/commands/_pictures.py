"""The pictures that a command's arguments name, and reading them one after the other."""

from collections.abc import Callable, Iterator
from pathlib import Path

from mlcli.commands._report import Progress, complain


def named(images: list[str]) -> tuple[list[Path], int]:
    """(their paths, how many folders could not be listed, which is said). Raises DataError where there is none."""
    from mlcli.engine.folders import find_images
    from mlcli.errors import DataError

    found = find_images(images)
    for problem in found.problems:
        complain(problem)
    if not found.paths:
        raise DataError(f"{' '.join(images)}: no pictures there")
    return found.paths, len(found.problems)


class Readable:
    """Iterates over (number, transformed picture) of the paths that can be read, and names the others.

    count, failures: of those read so far. bar: moves with each. window, workers: of `folders.decode`.
    """

    def __init__(self, paths: list[Path], transform: Callable, bar: Progress, *, window: int, workers: int | None):
        self.paths, self.transform, self.bar = paths, transform, bar
        self.window, self.workers = window, workers
        self.count = self.failures = 0

    def __iter__(self) -> Iterator[tuple]:
        from mlcli.engine.folders import decode
        from mlcli.errors import ImageError

        for number, picture in decode(self.paths, self.transform, workers=self.workers, window=self.window):
            if isinstance(picture, ImageError):
                self.failures += 1
                self.bar.complain(picture)
            else:
                self.count += 1
                yield number, picture
            self.bar.to(number + 1)

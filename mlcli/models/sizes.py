"""The side of the images that a network is trained on where none is asked for."""

from collections.abc import Sequence
from pathlib import Path

from mlcli.errors import ImageError
from mlcli.imaging import image_io
from mlcli.models import catalog

LEAST = 16  # pixels


def default_size(name: str, paths: Sequence[Path]) -> int:
    """The default of the architecture, or the side of the images where it is smaller and the architecture follows it.

    The default of every large network for a name that is unknown, which the building of the network tells.
    """
    known = catalog.resolved(name)
    if known is None:
        return 224
    entry = catalog.architecture(known)
    return first_side(paths, LEAST, entry.default_size) if entry.follows_images else entry.default_size


def first_side(paths: Sequence[Path], least: int, most: int) -> int:
    """The short side of the first readable image, within these bounds; 32 or `least` where there is none."""
    for path in paths:
        try:
            return max(least, min(most, *image_io.read(path).shape[1:]))
        except ImageError:
            continue
    return max(least, 32)

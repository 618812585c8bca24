"""The patches that units respond to, for the commands that show them: which units, the pass, their tiles, the JSON."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from mlcli.api import inputs
from mlcli.commands._report import Progress
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.io import schema
from mlcli.methods.visualization import top_patches as method
from mlcli.methods.visualization.top_patches import GROUPS, Patch, Patches
from mlcli.models import features
from mlcli.models.graph import Layer
from mlcli.models.model import Model
from mlcli.models.units import parse_units, split_unit
from mlcli.runtime.device import Runtime


def named_units(model: Model, given: str, units: str) -> tuple[str, Layer, list[int]]:
    """--layer, which may name a unit too, and --units: the address, its layer and the units. Raises UsageError."""
    address, unit = split_unit(given)
    address = address.removesuffix(features.SIGNED)
    if unit is not None and units != "all":
        raise UsageError(f"--layer {given}: names a unit; leave --units out, or the unit")
    layer = features.resolve(model, address)
    return address, layer, parse_units(units if unit is None else str(unit), layer)


def search(
    model: Model,
    wanted: Mapping[str, Sequence[int]],
    paths: list[Path],
    runtime: Runtime,
    *,
    top: int,
    batch_size: int,
    workers: int | None,
    quiet: bool,
) -> tuple[dict[str, Patches], int, int]:
    """(address: its patches, images read, images that could not be, which are named).

    Raises DataError where none could be read.
    """
    with Progress(len(paths), "patches", quiet=quiet) as bar:
        prepare = partial(method.PreparedImage.prepare, model.preprocessing)
        good = inputs.Readable(paths, prepare, bar, window=2 * batch_size, workers=workers)
        found = method.search(model, wanted, good, runtime, top=top, batch_size=batch_size)
    if not good.count:
        raise DataError(f"no readable image among the {len(paths)} that were named")
    return found, good.count, good.failures


class Tiles:
    """Cuts patches out of their files. Files that went meanwhile are named once; `gone` holds what was said."""

    def __init__(self, model: Model, side: int, workers: int | None, bar: Progress):
        self.gray, self.side, self.workers, self.bar = model.preprocessing.channels == 1, side, workers, bar
        self.gone: set[str] = set()

    def __call__(self, paths: Sequence[Path], patches: Sequence[Patch]) -> Iterator[Tensor | None]:
        """Each as (3, h, w) uint8, its longer side `side`; None for one that could not be read again."""
        for tile in method.crops(paths, patches, self.side, gray=self.gray, workers=self.workers):
            if isinstance(tile, ImageError) and str(tile) not in self.gone:
                self.gone.add(str(tile))
                self.bar.complain(tile)
            yield None if isinstance(tile, ImageError) else tile


def value_range(group: Sequence[Patch]) -> str:
    """The values of the first and last patch of a group."""
    return " to ".join(dict.fromkeys(f"{patch.value:.3g}" for patch in group[:1] + group[-1:]))


def units_entry(patches: Patches, paths: Sequence[Path]) -> list[dict]:
    """The units of a layer with the patches of each group, for JSON."""
    found = [(unit, patches.of(unit)) for unit in patches.units]
    return [
        {"unit": unit} | {group: [_entry(patch, paths) for patch in groups[group]] for group in GROUPS}
        for unit, groups in found
    ]


def _entry(patch: Patch, paths: Sequence[Path]) -> dict:
    return {
        "file": paths[patch.image],
        "value": patch.value,
        "place": patch.position,
        "box": patch.box,
        "size": patch.size,
    }


def _patch(value: Mapping) -> Mapping:
    """The check of a patch in a JSON file."""
    PATCH(value)
    (left, top, right, bottom), (height, width) = value["box"], value["size"]
    if not (left < right <= width and top < bottom <= height):
        raise schema.Invalid(f"should be inside an image of {width} x {height}", ("box",))
    return value


SIDE = schema.integer(0, 1 << 31)
PATCH = schema.record(
    {
        "file": schema.text(),
        "value": schema.number(),
        "place": schema.items(SIDE, 2, 2),
        "box": schema.items(SIDE, 4, 4),
        "size": schema.items(SIDE, 2, 2),
    }
)
UNITS = schema.items(schema.record({"unit": SIDE, **dict.fromkeys(GROUPS, schema.items(_patch))}))


def from_entry(unit: Mapping) -> tuple[list[Path], dict[str, list[Patch]]]:
    """(files, group: its patches) of a unit as `units_entry` has it; their `image` counts the files."""
    paths: list[Path] = []
    groups: dict[str, list[Patch]] = {group: [] for group in GROUPS}
    for group, patches in groups.items():
        for entry in unit[group]:
            place, box, size = (tuple(entry[name]) for name in ("place", "box", "size"))
            patches.append(Patch(len(paths), entry["value"], place, box, size))
            paths.append(Path(entry["file"]))
    return paths, groups

"""Image patches of units, as `patches` and `atlas` need them: which units, the search, the tiles, and the JSON."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mlcli.api import inputs, layer_names
from mlcli.api.events import Progress, Task
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.imaging.memory_images import MemoryImage
from mlcli.io import schema
from mlcli.methods.visualization import top_patches as method
from mlcli.methods.visualization.projections import Projector
from mlcli.methods.visualization.top_patches import GROUPS, Patch, Patches
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.models.structure.graph import Layer
from mlcli.models.structure.units import parse_units, split_unit
from mlcli.runtime.device import Runtime

Image = Path | MemoryImage


def named_units(model: Model, given: str, units: str) -> tuple[str, Layer, list[int]]:
    """(address, layer, indices of units) that the options `layer`, which may name a unit too, and `units` name.

    Raises UsageError for a layer or unit that the model does not have, and where both options name units.
    """
    address, unit = split_unit(given)
    address = address.removesuffix(features.SIGNED)
    if unit is not None and units != "all":
        raise UsageError(f"--layer {given}: names a unit; leave --units out, or the unit")
    layer = features.resolve(model, address)
    layer_names.addresses(model, [address])
    return address, layer, parse_units(units if unit is None else str(unit), layer)


def search(
    model: Model,
    wanted: Mapping[str, Sequence[int]],
    images: Sequence[Image],
    runtime: Runtime,
    *,
    top: int,
    batch_size: int,
    workers: int | None,
    target: int | None = None,
) -> tuple[dict[str, Patches], int, int]:
    """({address: patches of its units}, number of images read, number of images that could not be read).

    wanted: indices of units by the address of their layer. target: as in `top_patches.search`.
    Raises DataError where no image could be read.
    """
    with Progress(len(images), "patches") as bar:
        prepare = partial(method.PreparedImage.prepare, model.preprocessing)
        readable = inputs.Readable(images, prepare, bar, window=2 * batch_size, workers=workers)
        found = method.search(model, wanted, readable, runtime, top=top, batch_size=batch_size, target=target)
    if not readable.count:
        raise DataError(f"no readable image among the {len(images)} that were named")
    return found, readable.count, readable.failures


class Tiles:
    """Cuts patches out of their images as tiles of `side` pixels, and projects their units beside them.

    project: the rule of the projections (`relu_rules.RULES`); None for none.
    missing: messages on images that could not be read again; the listener is told each of them once.
    """

    def __init__(
        self, model: Model, side: int, workers: int | None, bar: Task, *, project: str | None, runtime: Runtime
    ):
        self.gray, self.side, self.workers, self.bar = model.preprocessing.channels == 1, side, workers, bar
        self.missing: set[str] = set()
        self._projector = lru_cache(1)(partial(Projector, model, rule=project, runtime=runtime)) if project else None

    def __call__(self, images: Sequence[Image], patches: Sequence[Patch]) -> Iterator[Tensor | None]:
        """Each patch as (3, h, w) uint8, its longer side `side`; None where its image could not be read again."""
        return self._read(method.crops(images, patches, self.side, gray=self.gray, workers=self.workers))

    def projections(
        self, address: str, units: Sequence[int], images: Sequence[Image], patches: Sequence[Patch]
    ) -> Iterator[Tensor | None]:
        """The projection of one unit of a layer for each patch, of the size of its tile; none without `project`."""
        if self._projector is None:
            return iter(())
        return self._read(self._projector(address).tiles(images, units, patches, self.side, self.workers))

    def _read(self, tiles: Sequence[Tensor | ImageError]) -> Iterator[Tensor | None]:
        for tile in tiles:
            if isinstance(tile, ImageError) and str(tile) not in self.missing:
                self.missing.add(str(tile))
                self.bar.complain(tile)
            yield None if isinstance(tile, ImageError) else tile


def value_range(group: Sequence[Patch]) -> str:
    """The values of the first and the last patch of a group, as a caption."""
    return " to ".join(dict.fromkeys(f"{patch.value:.3g}" for patch in (*group[:1], *group[-1:])))


# -- JSON --


def units_entry(patches: Patches, images: Sequence[Image]) -> list[dict[str, Any]]:
    """The units of a layer with the patches of each group, as JSON keeps them."""
    found = [(unit, patches.of(unit)) for unit in patches.units]
    return [
        {"unit": unit} | {group: [_entry(patch, images) for patch in groups[group]] for group in GROUPS}
        for unit, groups in found
    ]


def _entry(patch: Patch, images: Sequence[Image]) -> dict[str, Any]:
    return {
        "file": str(images[patch.image]),
        "value": patch.value,
        "position": patch.position,
        "box": patch.box,
        "size": patch.size,
    }


def _patch(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The check of a patch in a JSON file."""
    PATCH(value)
    (left, top, right, bottom), (height, width) = value["box"], value["size"]
    if not (left < right <= width and top < bottom <= height):
        raise schema.Invalid(f"should be inside an image of {width} x {height}", ("box",))
    return value


LENGTH = schema.integer(0, 1 << 31)
PATCH = schema.record(
    {
        "file": schema.text(),
        "value": schema.number(),
        "position": schema.items(LENGTH, 2, 2),
        "box": schema.items(LENGTH, 4, 4),
        "size": schema.items(LENGTH, 2, 2),
    }
)
UNITS = schema.items(schema.record({"unit": LENGTH, **dict.fromkeys(GROUPS, schema.items(_patch))}))


def from_entry(unit: Mapping[str, Any]) -> tuple[list[Path], dict[str, list[Patch]]]:
    """(files, {group: patches}) of a unit as `units_entry` gives it; `Patch.image` is an index of the files."""
    paths: list[Path] = []
    groups: dict[str, list[Patch]] = {group: [] for group in GROUPS}
    for group, patches in groups.items():
        for entry in unit[group]:
            position, box, size = (tuple(entry[name]) for name in ("position", "box", "size"))
            patches.append(Patch(len(paths), entry["value"], position, box, size))
            paths.append(Path(entry["file"]))
    return paths, groups

"""`mlcli.patches`: the image patches to which units respond."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, inputs
from mlcli.api.call import Call, function
from mlcli.api.events import Progress
from mlcli.counting import counted
from mlcli.errors import UsageError
from mlcli.options import METHOD, NETWORK, OUTPUT, option

if TYPE_CHECKING:
    from mlcli.api.unit_patches import Image, Tiles
    from mlcli.methods.visualization.top_patches import Patches
    from mlcli.models.model import Model

RECORD = "patches.json"
PAGE = 32  # units in one image, at most
PAGE_PIXELS = 16_000_000  # pixels of the tiles of one image, at most: of large tiles there are fewer units


@dataclass(frozen=True, kw_only=True)
class PatchesConfig(common.UsesModel, common.ReadsImages, common.ComputesExactly):
    images: common.Images = common.images()
    output: Path = common.output_folder()
    layer: str | Sequence[str] = option(
        ("conv3",),
        "Address or alias of a layer (see `mlcli layers`); can be given several times.",
        completes="layer",
        panel=NETWORK,
        cli_type=list[str],
    )
    units: str | int = common.units()
    top: int = common.top_patches(9)
    by: str = option(
        "activation",
        "What patches are ranked by: the activation of the unit, or its relevance to the logit of --class.",
        choices=("activation", "relevance"),
        panel=METHOD,
    )
    target: str | None = option(
        None,
        "Class that --by relevance ranks for: its label, a synonym, WordNet id or number.",
        "--class",
        panel=METHOD,
    )
    project: str | None = common.project()
    size: int = option(56, "Side of each tile in pixels.", minimum=16, maximum=512, panel=OUTPUT)
    batch_size: int = common.batch_size(64)
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class UnitPatches:
    """The patches that were found.

    layers: {address: patches}; `layers["conv3"].of(12)["strongly_positive"]` are those of unit 12, strongest first,
    each with the index of its image, its value, its position in the map, and its box in pixels of the upright image.
    images: the images that those indices count.  count: number of images read.
    folder: where the images of the layers and patches.json are.  record: what is in patches.json.
    failures: number of images and folders that could not be read.
    """

    layers: "Mapping[str, Patches]"
    images: "Sequence[Image]"
    count: int
    folder: Path
    record: Mapping[str, Any]
    failures: int = 0

    def as_json(self) -> Mapping[str, Any]:
        """What is in patches.json."""
        return self.record


@function(PatchesConfig)
def patches(call: Call[PatchesConfig]) -> UnitPatches:
    """Find the patches of images to which units respond, and draw them.

    Each unit has four groups of at most `top` patches: strongly and slightly positive, strongly and slightly negative,
    by its value before the ReLU, with at most one patch per image in each group. A patch is the receptive field of the
    unit, cut out of the image (Zeiler and Fergus 2014; the appendix of Olah et al. 2017). All layers are searched in
    one pass. With `by="relevance"` the value is the activation times the gradient of the logit of the class `target`.

        >>> import mlcli
        >>> result = mlcli.patches("photos", layer="conv3", units="0-15", output="patches")  # doctest: +SKIP
        >>> result.layers["conv3"].of(12)["strongly_positive"][0].value  # doctest: +SKIP
        7.25

    The folder `output` holds a JPEG image per layer, several where there are many units, and patches.json.
    Raises UsageError for unknown layers and units and where the folder holds something, DataError where no image can be
    read, WeightsError for a model that cannot be had.
    """
    from mlcli.api import outputs, unit_patches
    from mlcli.io.files import write_json
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime

    config = call.config
    output = config.output
    if (config.by == "relevance") != (config.target is not None):
        raise UsageError("--by relevance and --class go together: relevance is to a class")
    outputs.claim_folder(call, output, lambda: outputs.refuse_existing_folder(output, config.overwrite))
    lengths = _lengths(config.top)
    runtime = Runtime.choose(config.device, config.precision)
    model = registry.load(config.model, config.weights).to(runtime)
    layers = inputs.listed(config.layer)
    wanted = _wanted(model, layers, str(config.units))
    target = None
    if config.target is not None:
        model.require_classes()
        target = model.class_index(config.target)
    images, failures = inputs.named(config.images)
    found, count, unreadable = unit_patches.search(
        model,
        wanted,
        images,
        runtime,
        top=config.top,
        batch_size=config.batch_size,
        workers=config.workers,
        target=target,
    )
    entries = []
    ranked = "" if target is None else f"; by relevance to {model.classes[target]}"
    with Progress(sum(map(len, wanted.values())), "draw units") as bar:
        tiles = unit_patches.Tiles(model, config.size, config.workers, bar, project=config.project, runtime=runtime)
        for name, of_layer in found.items():
            files = _draw(output, name, of_layer, images, model, lengths, tiles, config.project, ranked)
            entries.append(_entry(name, of_layer, files, images))
    given = {"images": inputs.listed(config.images), "layer": layers}
    options = outputs.determining(config, **given, precision=runtime.precision)
    record = outputs.record("patches", options, model, images=count, layers=entries)
    write_json(output / RECORD, record)
    failures += unreadable + len(tiles.missing)
    return UnitPatches(found, images, count, output, record, failures)


def _wanted(model: "Model", layers: Sequence[str], units: str) -> dict[str, list[int]]:
    """{address as given: indices of its units}."""
    from mlcli.api.unit_patches import named_units

    wanted: dict[str, list[int]] = {}
    for given in layers:
        address, _, indices = named_units(model, given, units)
        wanted[address] = list(dict.fromkeys([*wanted.get(address, []), *indices]))
    return wanted


def _lengths(top: int) -> list[int]:
    """The number of tiles drawn of each group: a third of the slight ones."""
    from mlcli.methods.visualization.top_patches import GROUPS

    return [(top + 2) // 3 if group.startswith("slightly") else top for group in GROUPS]


def _draw(
    output: Path,
    name: str,
    patches: "Patches",
    images: "Sequence[Image]",
    model: "Model",
    lengths: Sequence[int],
    tiles: "Tiles",
    project: str | None,
    ranked: str,
) -> list[str]:
    """Write the images of a layer, and return their names."""
    from mlcli.api.unit_patches import value_range
    from mlcli.imaging import image_io
    from mlcli.methods.visualization.top_patches import GROUPS
    from mlcli.reporting import canvas

    field = patches.layer.receptive_field
    extent = "all" if math.isinf(field) else counted(round(field), "pixel")
    title = f"{name} of {model.name}: receptive field {extent}, image {model.preprocessing.crop} pixels{ranked}"
    title += f"; below each patch the projection of the unit ({project})" if project else ""
    headings = [group.replace("_", " ") for group in GROUPS]
    drawn_of_each = 2 if project else 1
    page = max(1, min(PAGE, PAGE_PIXELS // (sum(lengths) * drawn_of_each * tiles.side * tiles.side)))
    digits = len(str(max(patches.units)))
    files = []
    for start in range(0, len(patches.units), page):
        units = patches.units[start : start + page]
        groups = [
            patches.of(unit)[group][:length] for unit in units for group, length in zip(GROUPS, lengths, strict=True)
        ]
        chosen = [patch for group in groups for patch in group]
        cut = tiles(images, chosen)
        owners = [unit for i, group in enumerate(groups) for unit in [units[i // len(lengths)]] * len(group)]
        projected = tiles.projections(name, owners, images, chosen)
        strips = [
            canvas.Strip([next(cut) for _ in group], value_range(group), list(islice(projected, len(group))))
            for group in groups
        ]
        rows = [(str(unit), strips[4 * i : 4 * i + 4]) for i, unit in enumerate(units)]
        part = f"_{units[0]:0{digits}d}-{units[-1]:0{digits}d}" if page < len(patches.units) else ""
        files.append(f"{name}{part}.jpg")
        drawn = canvas.sheet(title, headings, rows, lengths, side=tiles.side)
        image_io.write(drawn, output / files[-1], quality=90)
        tiles.bar.to(tiles.bar.done + len(units))
    return files


def _entry(name: str, patches: "Patches", files: Sequence[str], images: "Sequence[Image]") -> dict[str, Any]:
    """A layer in patches.json."""
    from mlcli.api.unit_patches import units_entry

    layer = patches.layer
    return {
        "layer": name,
        "address": layer.address,
        "receptive_field": layer.receptive_field,
        "files": list(files),
        "units": units_entry(patches, images),
    }

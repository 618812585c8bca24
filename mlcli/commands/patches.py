"""`mlcli patches`"""

import math
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands import _pictures
from mlcli.commands._report import Progress, say

PAGE = 32  # units on a picture at most
PAGE_PIXELS = 16_000_000  # and fewer where their tiles are larger
WIDEST = 50_000  # pixels of the tiles of a row; JPEG ends at 65,535


def run(
    images: option.Images,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")],
    layer: option.Layers = ("conv3",),
    units: option.Units = "all",
    top: Annotated[int, typer.Option("--top", min=1, max=100, help="Patches in each group of a unit.")] = 9,
    model: option.Model = "cifarnet",
    weights: option.Weights = None,
    size: Annotated[int, typer.Option("--size", min=16, max=512, help="Side of a tile in pixels.")] = 56,
    batch_size: option.BatchSize = 64,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Show the patches of pictures that units respond to.

    For each unit the patches that excite it most, those that excite it slightly, and those it is slightly and strongly
    against, by its value before the ReLU; at most one patch a picture in each group. A patch is what the unit sees, cut
    from the picture in its file. Writes a picture for each layer (several where there are many units) and patches.json
    with file, value, place and box of each patch. --layer can be given several times; all are found in one pass.
    """
    from mlcli.commands._result import record, refuse_existing_folder
    from mlcli.engine import models
    from mlcli.engine.files import write_json
    from mlcli.engine.runtime import Runtime
    from mlcli.errors import DataError
    from mlcli.methods import patches as method

    refuse_existing_folder(output, overwrite)
    room = _room(top, size)
    runtime = Runtime.choose(device, precision)
    chosen = models.load(model, weights).to(runtime)
    wanted = _wanted(chosen, layer, units)
    paths, failures = _pictures.named(images)
    with Progress(len(paths), "patches", quiet=quiet) as bar:
        prepare = partial(method.Picture.prepare, chosen.preprocessing)
        good = _pictures.Readable(paths, prepare, bar, window=2 * batch_size, workers=workers)
        found = method.search(chosen, wanted, good, runtime, top=top, batch_size=batch_size)
    if not good.count:
        raise DataError(f"{' '.join(images)}: no readable picture among the {len(paths)}")
    gone: set[str] = set()
    entries = []
    with Progress(sum(map(len, wanted.values())), "draw units", quiet=quiet) as bar:
        for name, layer_patches in found.items():
            files = _draw(output, name, layer_patches, paths, chosen, room, size, workers, gone, bar)
            entries.append(_entry(name, layer_patches, files, paths))
    options = {"images": images, "layer": list(layer), "units": units, "top": top, "model": model, "weights": weights}
    options |= {"size": size, "batch_size": batch_size, "precision": runtime.precision}
    document = record("patches", options, chosen, pictures=good.count, layers=entries)
    write_json(output / "patches.json", document)
    drawn = ", ".join(f"{len(entry['units'])} units of {entry['layer']}" for entry in entries)
    say(f"{output}: {drawn} over {good.count} pictures", quiet)
    if failures + good.failures + len(gone):
        raise typer.Exit(1)


def _wanted(model, layers, units) -> dict[str, list[int]]:
    """address as given: its units."""
    from mlcli.engine import features
    from mlcli.errors import UsageError

    wanted: dict[str, list[int]] = {}
    for given in layers:
        address, unit = features.split_unit(given)
        address = address.removesuffix(features.SIGNED)
        if unit is not None and units != "all":
            raise UsageError(f"--layer {given}: names a unit; leave --units out, or the unit")
        layer = features.resolve(model, address)
        named = features.parse_units(units if unit is None else str(unit), layer)
        wanted[address] = list(dict.fromkeys([*wanted.get(address, []), *named]))
    return wanted


def _room(top, size) -> list[int]:
    """How many tiles each group has room for; of the slight ones fewer are shown. UsageError for too wide a picture."""
    from mlcli.errors import UsageError
    from mlcli.methods.patches import GROUPS

    room = [(top + 2) // 3 if group.startswith("slightly") else top for group in GROUPS]
    if (width := sum(room) * size) > WIDEST:
        raise UsageError(f"--top {top} with --size {size}: rows of {width} pixels; at most {WIDEST} can be drawn")
    return room


def _draw(output, name, patches, paths, model, room, size, workers, gone, bar) -> list[str]:
    """Write the pictures of a layer; their names. Files that went meanwhile are named once and added to `gone`."""
    from mlcli.engine import canvas, images
    from mlcli.methods.patches import GROUPS, crops

    field = patches.layer.receptive_field
    sees = "all" if math.isinf(field) else f"{field:.0f} pixels"
    title = f"{name} of {model.name}: receptive field {sees}, picture {model.preprocessing.crop} pixels"
    headings = [group.replace("_", " ") for group in GROUPS]
    page = max(1, min(PAGE, PAGE_PIXELS // (sum(room) * size * size)))
    digits = len(str(max(patches.units)))
    files = []
    for start in range(0, len(patches.units), page):
        units = patches.units[start : start + page]
        groups = [patches.of(unit)[group][:count] for unit in units for group, count in zip(GROUPS, room, strict=True)]
        shown = [patch for group in groups for patch in group]
        cut = crops(paths, shown, size, gray=model.preprocessing.channels == 1, workers=workers)
        tiles = iter(_present(cut, gone, bar))
        strips = [canvas.Strip([next(tiles) for _ in group], _range(group)) for group in groups]
        rows = [(str(unit), strips[4 * i : 4 * i + 4]) for i, unit in enumerate(units)]
        part = f"_{units[0]:0{digits}d}-{units[-1]:0{digits}d}" if page < len(patches.units) else ""
        files.append(f"{name}{part}.jpg")
        images.write(canvas.sheet(title, headings, rows, room, side=size), output / files[-1], quality=90)
        bar.to(bar.done + len(units))
    return files


def _present(tiles, gone, bar):
    """The tiles with None for each that could not be read again, which is said once a file."""
    from mlcli.errors import ImageError

    for tile in tiles:
        if isinstance(tile, ImageError) and str(tile) not in gone:
            gone.add(str(tile))
            bar.complain(tile)
        yield None if isinstance(tile, ImageError) else tile


def _range(group) -> str:
    """The values of the first and last patch of a group."""
    return " to ".join(dict.fromkeys(f"{patch.value:.3g}" for patch in group[:1] + group[-1:]))


def _entry(name, patches, files, paths) -> dict:
    """A layer in patches.json."""
    from mlcli.methods.patches import GROUPS

    units = []
    for unit in patches.units:
        groups = patches.of(unit)
        units.append({"unit": unit} | {group: [_patch(patch, paths) for patch in groups[group]] for group in GROUPS})
    layer = patches.layer
    field = layer.receptive_field
    return {"layer": name, "address": layer.address, "receptive_field": field, "files": files, "units": units}


def _patch(patch, paths) -> dict:
    return {"file": paths[patch.picture], "value": patch.value, "place": patch.place, "box": patch.box}

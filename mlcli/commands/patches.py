"""`mlcli patches`"""

import math
from typing import Annotated

import typer

from mlcli.api import inputs
from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import Progress, say

PAGE = 32  # units on an image at most
PAGE_PIXELS = 16_000_000  # and fewer where their tiles are larger
WIDEST = 50_000  # pixels of the tiles of a row; JPEG ends at 65,535


@option.reads_images
def run(
    context: typer.Context,
    images: option.Images,
    output: option.Folder,
    layer: option.Layers = ("conv3",),
    units: option.Units = "all",
    top: option.Top = 9,
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    size: Annotated[int, typer.Option("--size", min=16, max=512, help="Side of a tile in pixels.")] = 56,
    batch_size: option.BatchSize = 64,
    device: option.Device = "auto",
    precision: option.ExactPrecision = option.Precision.fp32,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Show the patches of images that units respond to.

    For each unit the patches that excite it most, those that excite it slightly, and those it is slightly and strongly
    against, by its value before the ReLU; at most one patch an image in each group. A patch is what the unit sees, cut
    from the image in its file. Writes an image for each layer (several where there are many units) and patches.json
    with file, value, place and box of each patch. --layer can be given several times; all are found in one pass.
    """
    from mlcli.api.outputs import claim_folder, record, refuse_existing_folder
    from mlcli.commands import _patches
    from mlcli.io.files import write_json
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime

    claim_folder(call_of(context), output, lambda: refuse_existing_folder(output, overwrite))
    room = _room(top, size)
    runtime = Runtime.choose(device, precision)
    chosen = registry.load(model, weights).to(runtime)
    wanted = _wanted(chosen, layer, units)
    paths, failures = inputs.named(images)
    found, count, unreadable = _patches.search(
        chosen, wanted, paths, runtime, top=top, batch_size=batch_size, workers=workers, quiet=quiet
    )
    entries = []
    with Progress(sum(map(len, wanted.values())), "draw units", quiet=quiet) as bar:
        tiles = _patches.Tiles(chosen, size, workers, bar)
        for name, layer_patches in found.items():
            files = _draw(output, name, layer_patches, paths, chosen, room, size, tiles, bar)
            entries.append(_entry(name, layer_patches, files, paths))
    options = {"images": images, "layer": list(layer), "units": units, "top": top, "model": model, "weights": weights}
    options |= {"size": size, "batch_size": batch_size, "precision": runtime.precision}
    document = record("patches", options, chosen, images=count, layers=entries)
    write_json(output / "patches.json", document)
    drawn = ", ".join(f"{len(entry['units'])} units of {entry['layer']}" for entry in entries)
    say(f"{output}: {drawn} over {count} images", quiet)
    if failures + unreadable + len(tiles.gone):
        raise typer.Exit(1)


def _wanted(model, layers, units) -> dict[str, list[int]]:
    """address as given: its units."""
    from mlcli.commands._patches import named_units

    wanted: dict[str, list[int]] = {}
    for given in layers:
        address, _, named = named_units(model, given, units)
        wanted[address] = list(dict.fromkeys([*wanted.get(address, []), *named]))
    return wanted


def _room(top, size) -> list[int]:
    """How many tiles each group has room for; of the slight ones fewer are shown. UsageError for too wide an image."""
    from mlcli.errors import UsageError
    from mlcli.methods.visualization.top_patches import GROUPS

    room = [(top + 2) // 3 if group.startswith("slightly") else top for group in GROUPS]
    if (width := sum(room) * size) > WIDEST:
        raise UsageError(f"--top {top} with --size {size}: rows of {width} pixels; at most {WIDEST} can be drawn")
    return room


def _draw(output, name, patches, paths, model, room, size, tiles, bar) -> list[str]:
    """Write the images of a layer; their names."""
    from mlcli.commands._patches import value_range
    from mlcli.io import image_io
    from mlcli.methods.visualization.top_patches import GROUPS
    from mlcli.reporting import canvas

    field = patches.layer.receptive_field
    sees = "all" if math.isinf(field) else f"{field:.0f} pixels"
    title = f"{name} of {model.name}: receptive field {sees}, image {model.preprocessing.crop} pixels"
    headings = [group.replace("_", " ") for group in GROUPS]
    page = max(1, min(PAGE, PAGE_PIXELS // (sum(room) * size * size)))
    digits = len(str(max(patches.units)))
    files = []
    for start in range(0, len(patches.units), page):
        units = patches.units[start : start + page]
        groups = [patches.of(unit)[group][:count] for unit in units for group, count in zip(GROUPS, room, strict=True)]
        cut = tiles(paths, [patch for group in groups for patch in group])
        strips = [canvas.Strip([next(cut) for _ in group], value_range(group)) for group in groups]
        rows = [(str(unit), strips[4 * i : 4 * i + 4]) for i, unit in enumerate(units)]
        part = f"_{units[0]:0{digits}d}-{units[-1]:0{digits}d}" if page < len(patches.units) else ""
        files.append(f"{name}{part}.jpg")
        image_io.write(canvas.sheet(title, headings, rows, room, side=size), output / files[-1], quality=90)
        bar.to(bar.done + len(units))
    return files


def _entry(name, patches, files, paths) -> dict:
    """A layer in patches.json."""
    from mlcli.commands._patches import units_entry

    layer = patches.layer
    field, units = layer.receptive_field, units_entry(patches, paths)
    return {"layer": name, "address": layer.address, "receptive_field": field, "files": files, "units": units}

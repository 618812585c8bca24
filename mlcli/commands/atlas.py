"""`mlcli atlas`"""

import os
from dataclasses import asdict, replace
from typing import Annotated

import typer

from mlcli.api import inputs
from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._many import taking_many
from mlcli.commands._report import Progress, say
from mlcli.methods.visualization import configs

Parser = taking_many("--images")
MADE, PATCH = 128, 96  # pixels, the sides of images in a row; what is made for a larger network is larger
RISING = 3  # patches of each group in a spectrum
AT_ONCE = 64  # images in the pass over --images


@option.reads_images
def run(
    context: typer.Context,
    output: option.Folder,
    layer: option.Layer = "conv4",
    units: option.Units = "all",
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="IMAGES...",
            help="Where to find patches: files, folders, or -; all up to the next option.",
        ),
    ] = None,
    top: option.Top = 10,
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    classes: option.Classes = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Side of the images made, in pixels; default the model's own.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help=f"Number of optimization steps; default {configs.Maximization.steps}, for a network of small images "
            f"{configs.SMALL_IMAGES.steps}.",
        ),
    ] = None,
    seed: option.Seed = configs.Maximization.seed,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Images at a time; default 64, to make large ones fewer."),
    ] = None,
    device: option.Device = "auto",
    precision: Annotated[
        option.Precision,
        typer.Option(
            "--precision",
            help="Of the optimization; auto takes bf16 where the hardware has it natively. Patches are found in fp32.",
        ),
    ] = option.Precision.auto,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    resume: option.Resume = False,
    quiet: option.Quiet = False,
) -> None:
    """Show what every unit of a layer looks for, on one page that opens offline.

    A row for each unit: images made for the neuron in the middle of the map, for the channel, four that differ, and
    for the least value; with --images also the patches that excite the unit most, those it is most against, and its
    spectrum from one to the other. Units are written as they come; after an interruption --resume does what is missing.
    """
    from mlcli.api.outputs import claim_folder, record, resume_command
    from mlcli.commands import _patches
    from mlcli.commands._atlas import Atlas
    from mlcli.data.folders import digest
    from mlcli.errors import Interrupted
    from mlcli.methods.visualization import unit_atlas as method
    from mlcli.models import registry
    from mlcli.runtime import signals
    from mlcli.runtime.device import Runtime

    claim_folder(call_of(context), output, lambda: Atlas(output).check(overwrite=overwrite, resume=resume))
    runtime = Runtime.choose(device, precision)
    chosen = registry.load(model, weights, classes=classes).to(runtime)
    name, target, wanted = _patches.named_units(chosen, layer, units)
    side = size or chosen.preprocessing.crop
    config = configs.maximization(chosen.preprocessing.crop, field=target.receptive_field)
    config = replace(config, steps=steps or config.steps, seed=seed)
    method.check(chosen, target, config, runtime, side)
    paths, failures = inputs.named(images) if images else ([], 0)

    options = {"layer": layer, "units": units, "images": images, "top": top, "model": model, "weights": weights}
    options["classes"] = classes
    options |= {"size": side, "batch_size": batch_size, "precision": runtime.precision, **asdict(config)}
    origin = record("atlas", options, chosen, images={"count": len(paths), "hash": digest(paths)})
    atlas = Atlas(output, wanted)
    begun = resume and atlas.begun
    if begun:
        atlas.require(origin)
        if not atlas.missing(wanted) and not atlas.outdated:
            say(f"{output}: done already", quiet)
            return
    patches = None
    if paths and not (begun and os.path.isfile(atlas.patches_file)):
        at_once = batch_size or AT_ONCE
        exact = replace(runtime, precision="fp32")  # bf16 changes the order of patches
        patches, count, unreadable = _patches.search(
            chosen, {name: wanted}, paths, exact, top=top, batch_size=at_once, workers=workers, quiet=quiet
        )
        failures += unreadable
    if not begun:
        atlas.begin(origin)
    atlas.sweep()
    if patches:
        atlas.write_patches(count, _patches.units_entry(patches[name], paths))

    count, entries = atlas.patches()
    batches = method.batches(wanted, side, batch_size)
    each = method.CALLS * config.steps
    title, note = f"{name} of {chosen.name}: {len(wanted)} units", _note(method.position_count(target) > 1, count)
    classes = [f" {label}" for label in chosen.classes] if target.shape == (len(chosen.classes),) else None
    with signals.noted() as caught, Progress(len(batches) * each, f"atlas of {name}", quiet=quiet) as bar:

        def step(done: int, value: float) -> None:
            if caught:
                there = f"{len(wanted) - len(atlas.missing(wanted))} of {len(wanted)} units"
                raise Interrupted(f"interrupted; {output} has {there}. Resume with: {resume_command()}", caught[0])
            bar.to(start + done, f"objective {value:.4g}")

        tiles = _patches.Tiles(chosen, PATCH, workers, bar)
        atlas.write_page(title, note, origin)
        for start, batch in zip(range(0, len(batches) * each, each), batches, strict=True):
            if missing := atlas.missing(batch):
                made = method.optimize(chosen, target, batch, config, runtime, name=name, size=side, on_step=step)
                for unit in missing:
                    row = _row(made[unit], _cut(entries[unit], tiles) if entries else None)
                    heading = f"{name}:{unit}" + (classes[unit] if classes else "")
                    atlas.write_unit(unit, heading, row, _described(made[unit]))
                atlas.write_page(title, note, origin)
            bar.to(start + each)
    say(f"{atlas.page}: {len(wanted)} units of {name}", quiet)
    if caught:  # it came with the last unit
        raise Interrupted(f"interrupted; {output} is finished", caught[0])
    if failures + len(tiles.gone):
        raise typer.Exit(1)


def _note(neuron: bool, images: int) -> str:
    """What there is to see in a row."""
    made = "channel + and four diverse images of it, made for the channel; channel \N{MINUS SIGN}, made for its least"
    made = f"the neuron in the middle of the map; {made}" if neuron else made
    numbers = "Numbers are the unit's values before its ReLU, where in the image they are greatest or least."
    if not images:
        return f"Each row: {made}. Made without --images, hence without patches of images. {numbers}"
    return (
        f"Each row: {made}; beside them the patches, of {images} images, that excite the unit most and those it is "
        f"most against; the spectrum from what was made for its least, over patches, to what was made for it. {numbers}"
    )


def _cut(entry, tiles) -> dict[str, list]:
    """group: (patch, tile) of each patch of a unit that is shown."""
    from mlcli.commands._patches import from_entry

    paths, groups = from_entry(entry)
    groups = {group: found if group.startswith("strongly") else found[:RISING] for group, found in groups.items()}
    cut = tiles(paths, [patch for found in groups.values() for patch in found])
    return {group: [(patch, next(cut)) for patch in found] for group, found in groups.items()}


def _row(made, patches) -> list:
    """The images of a row in the order of the original, and the spectrum."""
    from mlcli.commands._atlas import Drawn
    from mlcli.commands._patches import value_range
    from mlcli.io import image_io
    from mlcli.methods.visualization.unit_atlas import spectrum
    from mlcli.reporting import canvas

    height = made["positive"][0].image.shape[1]
    ending = ".png" if height < MADE else ".jpg"  # the edges of enlarged pixels are sharp

    def values(pairs) -> str:
        return value_range([patch for patch, _ in pairs])

    def square(one, side):
        return canvas.square(one.image.expand(3, -1, -1), side)

    def single(kind: str, caption: str) -> Drawn:
        (one,) = made[kind]
        drawn = image_io.to_pillow(square(one, max(MADE, height)))
        return Drawn(f"{kind}{ending}", f"{caption}: {one.activation:.3g}", drawn)

    def strip(kind: str, caption: str) -> list[Drawn]:
        if not patches:
            return []
        pairs = patches[kind]
        drawn = canvas.mosaic([[tile for _, tile in pairs]], PATCH, rows=2)
        return [Drawn(f"{kind}.jpg", f"{caption}: {values(pairs)}", drawn)]

    side = max(MADE // 2, height)
    answers = sorted(one.activation for one in made["diverse"])
    diverse = canvas.mosaic([[square(one, side) for one in made["diverse"]]], side, rows=2)
    row = [single("neuron", "neuron")] if "neuron" in made else []
    row += [
        single("positive", "channel +"),
        Drawn(f"diverse{ending}", f"diverse: {answers[0]:.2g} to {answers[-1]:.2g}", diverse),
        *strip("strongly_positive", "most excited by"),
        single("negative", "channel \N{MINUS SIGN}"),
        *strip("strongly_negative", "most against"),
    ]
    if patches:
        (least,), (most,) = made["negative"], made["positive"]
        rising = spectrum(patches, RISING)
        groups = [[square(least, PATCH)], *([tile for _, tile in pairs] for pairs in rising), [square(most, PATCH)]]
        told = [f"{least.activation:.3g}", *map(values, rising), f"{most.activation:.3g}"]
        row.append(Drawn("spectrum.jpg", "spectrum: " + " | ".join(filter(None, told)), canvas.mosaic(groups, PATCH)))
    return row


def _described(made) -> dict:
    return {
        kind: [{"objective": one.objective, "value": one.value, "answer": one.activation} for one in images]
        for kind, images in made.items()
    }

"""`mlcli.atlas`: what the units of a layer respond to, on one page."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, inputs
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, say
from mlcli.counting import counted
from mlcli.errors import Interrupted, UsageError
from mlcli.methods.visualization.configs import SMALL, SMALL_IMAGES, Maximization, maximization
from mlcli.options import COMPUTING, DATA, METHOD, NETWORK, OUTPUT, option, same

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.api.atlas_folder import AtlasFolder, Drawn
    from mlcli.api.unit_patches import Tiles
    from mlcli.methods.visualization.top_patches import Patch
    from mlcli.methods.visualization.unit_atlas import Optimized
    from mlcli.models.model import Model
    from mlcli.models.structure.graph import Layer
    from mlcli.runtime.device import Runtime

    Tile = tuple[Patch, Tensor | None, Tensor | None]  # a patch, its image and the projection below it

MADE_SIDE, PATCH_SIDE = 128, 96  # pixels, of optimized images (more for networks of larger images) and of patches
RISING = 3  # patches of each group in a spectrum
SEARCH_BATCH_SIZE = 64  # images per batch in the search for patches


@dataclass(frozen=True, kw_only=True)
class AtlasConfig(common.UsesClasses, common.ReadsImages, common.Computes):
    output: Path = common.output_folder()
    layer: str = option("conv4", "Address or alias of a layer (see `mlcli layers`).", panel=NETWORK, completes="layer")
    units: str | int = common.units()
    images: common.Paths | None = option(
        None,
        "Images to find patches in: files, folders, or - for paths on stdin; all words up to the next option.",
        "--images",
        metavar="IMAGES...",
        cli_type=list[str],
        panel=DATA,
    )
    top: int = common.top_patches(10)
    project: str | None = common.project()
    size: int | None = option(
        None,
        "Side of the optimized images in pixels.",
        minimum=1,
        shown_default="that of the images of the model",
        panel=METHOD,
    )
    steps: int | None = same(
        Maximization,
        "steps",
        default=None,
        shown_default=f"{Maximization.steps}; {SMALL_IMAGES.steps} for networks of images up to {SMALL} pixels",
    )
    seed: int = common.seed(Maximization.seed)
    batch_size: int | None = option(
        None,
        "Number of images per batch.",
        minimum=1,
        shown_default="64, fewer where optimized images are large",
        panel=COMPUTING,
    )
    precision: str = same(
        common.Computes,
        "precision",
        help="Arithmetic precision of the optimization; auto is bf16 where the hardware has it natively, else fp32. "
        "Patches are always found in fp32.",
    )
    overwrite: bool = common.overwrite()
    resume: bool = option(False, "Resume the atlas in the output folder.", panel=OUTPUT)


@dataclass(frozen=True)
class Atlas:
    """A finished atlas.

    folder: its folder.  page: the page in it.  layer: address as given.  units: their indices.
    record: what is in atlas.json.  failures: number of images and folders that could not be read.
    """

    folder: Path
    page: Path
    layer: str
    units: tuple[int, ...]
    record: Mapping[str, Any]
    failures: int = 0

    def as_json(self) -> Mapping[str, Any]:
        """What is in atlas.json."""
        return self.record


@function(AtlasConfig)
def atlas(call: Call[AtlasConfig]) -> Atlas:
    """Show what every unit of a layer responds to, on one page that opens offline.

    A row for each unit as in the appendix of Olah et al. 2017, Feature Visualization: images that maximize the neuron
    at the center of the map, the channel, and the channel in four diverse ways, and an image that minimizes it. With
    `images` a row also has the patches to which the unit responds most strongly, positively and negatively, and a
    spectrum from one to the other.

        >>> import mlcli
        >>> result = mlcli.atlas(layer="conv4", units="0-15", images="photos", output="atlas")  # doctest: +SKIP
        >>> result.page  # doctest: +SKIP
        PosixPath('atlas/index.html')

    The folder `output` holds the page, the images of the units, and the values and boxes of the patches as JSON. Units
    are written as they are computed. With `resume` an interrupted atlas is completed to the same bytes as one never
    interrupted, and a finished one is left as it is.
    Raises UsageError for unknown layers and units, for a size that does not suit the layer, and where the folder holds
    something else; RunError where an atlas to resume was started with other options, images or weights; DataError where
    no image can be read; Interrupted after a signal.
    """
    from mlcli.api import unit_patches
    from mlcli.api.atlas_folder import AtlasFolder
    from mlcli.api.outputs import claim_folder, determining, record
    from mlcli.data.folders import digest
    from mlcli.methods.visualization import unit_atlas
    from mlcli.models import registry
    from mlcli.runtime.device import Runtime

    config = call.config
    if config.project and config.images is None:
        raise UsageError(f"--project {config.project}: is drawn below patches of images; give --images too")
    claim_folder(
        call, config.output, lambda: AtlasFolder(config.output).check(overwrite=config.overwrite, resume=config.resume)
    )
    runtime = Runtime.choose(config.device, config.precision)
    model = registry.load(config.model, config.weights, classes=config.classes).to(runtime)
    name, layer, units = unit_patches.named_units(model, config.layer, str(config.units))
    side = config.size or model.preprocessing.crop
    hyperparameters = maximization(model.preprocessing.crop, field=layer.receptive_field)
    hyperparameters = replace(hyperparameters, steps=config.steps or hyperparameters.steps, seed=config.seed)
    unit_atlas.check(model, layer, hyperparameters, runtime, side)
    given = [] if config.images is None else inputs.file_names(config.images)
    found, failures = inputs.named(given) if given else ([], 0)
    images = [image for image in found if isinstance(image, Path)]

    options = determining(config, images=given or None, size=side, precision=runtime.precision)
    options |= asdict(hyperparameters)
    made_with = record(
        "atlas", options, model, address=layer.address, images={"count": len(images), "hash": digest(images)}
    )
    folder = AtlasFolder(config.output, units)
    resumed = config.resume and folder.started
    result = Atlas(config.output, folder.page, name, tuple(units), made_with, failures)
    if resumed:
        folder.require(made_with)
        if not folder.missing(units) and not folder.outdated:
            say(f"{config.output}: done already")
            return result
    patches = None
    if images and not (resumed and os.path.isfile(folder.patches_file)):
        patches, count, unreadable = unit_patches.search(
            model,
            {name: units},
            images,
            replace(runtime, precision="fp32"),  # bf16 changes the order of patches
            top=config.top,
            batch_size=config.batch_size or SEARCH_BATCH_SIZE,
            workers=config.workers,
        )
        failures += unreadable
    if not resumed:
        folder.start(made_with | {"command_line": call.text})
    folder.sweep()
    if patches:
        folder.write_patches(count, unit_patches.units_entry(patches[name], images))
    missing = _draw(config, folder, model, name, layer, hyperparameters, runtime, made_with)
    return replace(result, failures=failures + missing)


def _draw(
    config: AtlasConfig,
    folder: "AtlasFolder",
    model: "Model",
    name: str,
    layer: "Layer",
    hyperparameters: "Maximization",
    runtime: "Runtime",
    made_with: Mapping[str, Any],
) -> int:
    """Optimize and draw the missing units; the number of images that could not be read again for their patches.

    Raises Interrupted after a signal.
    """
    from mlcli.api.outputs import resume_command
    from mlcli.api.unit_patches import Tiles
    from mlcli.methods.visualization import unit_atlas
    from mlcli.runtime import signals

    units, side = folder.units, made_with["options"]["size"]
    count, entries = folder.patches()
    batches = unit_atlas.batches(units, side, config.batch_size)
    steps = unit_atlas.CALLS * hyperparameters.steps
    title = f"{name} of {model.name}: {counted(len(units), 'unit')}"
    note = _note(unit_atlas.position_count(layer) > 1, count, config.project)
    labels = [f" {label}" for label in model.classes] if layer.shape == (len(model.classes),) else None
    with signals.noted() as caught, Progress(len(batches) * steps, f"atlas of {name}") as bar:

        def on_step(done: int, value: float) -> None:
            if caught:
                finished = f"{len(units) - len(folder.missing(units))} of {counted(len(units), 'unit')}"
                message = f"interrupted; {folder.folder} has {finished}. Resume with: {resume_command()}"
                raise Interrupted(message, caught[0])
            bar.to(start + done, f"objective {value:.4g}")

        exact = replace(runtime, precision="fp32")
        tiles = Tiles(model, PATCH_SIDE, config.workers, bar, project=config.project, runtime=exact)
        folder.write_page(title, note, made_with)
        for start, batch in zip(range(0, len(batches) * steps, steps), batches, strict=True):
            if missing := folder.missing(batch):
                made = unit_atlas.optimize(
                    model, layer, batch, hyperparameters, runtime, name=name, size=side, on_step=on_step
                )
                for unit in missing:
                    row = _row(made[unit], _cut(entries[unit], name, unit, tiles) if entries else None)
                    heading = f"{name}:{unit}" + (labels[unit] if labels else "")
                    folder.write_unit(unit, heading, row, _described(made[unit]))
                folder.write_page(title, note, made_with)
            bar.to(start + steps)
    say(f"{folder.page}: {counted(len(units), 'unit')} of {name}")
    if caught:  # it came with the last unit
        raise Interrupted(f"interrupted; {folder.folder} is finished", caught[0])
    return len(tiles.missing)


def _note(is_map: bool, images: int, project: str | None) -> str:
    """What there is to see in a row."""
    made = "channel + and four diverse images that maximize the channel; channel \N{MINUS SIGN}, which minimizes it"
    made = f"an image that maximizes the neuron at the center of the map; {made}" if is_map else made
    numbers = "Numbers are the values of the unit before its ReLU, the greatest or least of all positions."
    projected = f", below each the projection of the unit ({project})" if project else ""
    if not images:
        return f"Each row: {made}. Made without --images, hence without patches of images. {numbers}"
    return (
        f"Each row: {made}; beside them the patches, from {counted(images, 'image')}, with the greatest and the least "
        f"values of the unit{projected}; the spectrum from the image that minimizes it, over patches, to the image "
        f"that maximizes it. {numbers}"
    )


def _cut(entry: Mapping[str, Any], name: str, unit: int, tiles: "Tiles") -> "dict[str, list[Tile]]":
    """{group: (patch, its tile, its projection) of each patch that is shown of a unit of the layer `name`}."""
    from mlcli.api.unit_patches import from_entry

    paths, groups = from_entry(entry)
    groups = {group: found if group.startswith("strongly") else found[:RISING] for group, found in groups.items()}
    chosen = [patch for found in groups.values() for patch in found]
    cut, projected = tiles(paths, chosen), tiles.projections(name, [unit] * len(chosen), paths, chosen)
    return {group: [(patch, next(cut), next(projected, None)) for patch in found] for group, found in groups.items()}


def _row(made: "Mapping[str, Sequence[Optimized]]", patches: "Mapping[str, Sequence[Tile]] | None") -> "list[Drawn]":
    """The images of a row in the order of the original, and the spectrum."""
    from mlcli.api.atlas_folder import Drawn
    from mlcli.api.unit_patches import value_range
    from mlcli.imaging import image_io
    from mlcli.methods.visualization.unit_atlas import spectrum
    from mlcli.reporting import canvas

    height = made["positive"][0].image.shape[1]
    ending = ".png" if height < MADE_SIDE else ".jpg"  # the edges of enlarged pixels are sharp

    def values(pairs: "Sequence[Tile]") -> str:
        return value_range([patch for patch, *_ in pairs])

    def square(one: "Optimized", side: int) -> "Tensor":
        return canvas.square(one.image.expand(3, -1, -1), side)

    def single(kind: str, caption: str) -> Drawn:
        (one,) = made[kind]
        drawn = image_io.to_pillow(square(one, max(MADE_SIDE, height)))
        return Drawn(f"{kind}{ending}", f"{caption}: {one.activation:.3g}", drawn)

    def strip(kind: str, caption: str) -> list[Drawn]:
        if not patches:
            return []
        pairs = patches[kind]
        lines = max(2, -(-len(pairs) // canvas.MOST_COLUMNS))
        below = [projection for *_, projection in pairs if projection is not None]
        high = 2 if below else 1
        drawn = canvas.mosaic(
            [[tile for _, tile, _ in pairs]], PATCH_SIDE, rows=lines, below=[[p for *_, p in pairs]] if below else ()
        )
        return [Drawn(f"{kind}.jpg", f"{caption}: {values(pairs)}", drawn, lines * high / 2)]

    side = max(MADE_SIDE // 2, height)
    activations = sorted(one.activation for one in made["diverse"])
    diverse = canvas.mosaic([[square(one, side) for one in made["diverse"]]], side, rows=2)
    row = [single("neuron", "neuron")] if "neuron" in made else []
    row += [
        single("positive", "channel +"),
        Drawn(f"diverse{ending}", f"diverse: {activations[0]:.2g} to {activations[-1]:.2g}", diverse),
        *strip("strongly_positive", "most excited by"),
        single("negative", "channel \N{MINUS SIGN}"),
        *strip("strongly_negative", "most against"),
    ]
    if patches:
        (least,), (most,) = made["negative"], made["positive"]
        rising = spectrum(patches, RISING)
        groups: list[list[Tensor | None]] = [[tile for _, tile, _ in pairs] for pairs in rising]
        groups = [[square(least, PATCH_SIDE)], *groups, [square(most, PATCH_SIDE)]]
        told = [f"{least.activation:.3g}", *map(values, rising), f"{most.activation:.3g}"]
        drawn = canvas.mosaic(groups, PATCH_SIDE)
        row.append(Drawn("spectrum.jpg", "spectrum: " + " | ".join(filter(None, told)), drawn))
    return row


def _described(made: "Mapping[str, Sequence[Optimized]]") -> dict[str, list[dict[str, Any]]]:
    """The optimized images of a unit, as JSON keeps them."""
    return {
        kind: [{"objective": one.objective, "value": one.value, "activation": one.activation} for one in images]
        for kind, images in made.items()
    }

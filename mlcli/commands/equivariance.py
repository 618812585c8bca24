"""`mlcli equivariance`"""

import math
from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from mlcli.api import inputs
from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import Progress, csv_text, out, say, table
from mlcli.io.files import json_text

RECORD, CURVES, EXAMPLE = "equivariance.json", "curves.png", "example.png"
SHOWN, TILE = 5, 64  # amounts in the image of examples, and the side of its tiles in pixels
STILL = {"shift": 0, "rotate": 0, "scale": 1, "flip": "none"}  # the amounts that change nothing


class Transform(StrEnum):
    shift = "shift"
    rotate = "rotate"
    flip = "flip"
    scale = "scale"


class Padding(StrEnum):
    mirror = "mirror"
    circular = "circular"


@option.reads_images
def run(
    context: typer.Context,
    images: option.Images,
    output: option.Folder,
    transform: Annotated[Transform, typer.Option("--transform", help="What happens to the images.")] = (
        Transform.shift
    ),
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            help="A layer by address or alias, or logits; can be given several times. Default every stage and the "
            "logits.",
        ),
    ] = None,
    most: Annotated[
        float | None,
        typer.Option(
            "--range",
            help="The greatest amount: pixels, degrees or a factor. Default twice the coarsest stride, 180 and 2.",
        ),
    ] = None,
    points: Annotated[
        int, typer.Option("--points", min=2, max=361, help="How many amounts; of scale one more than an even number.")
    ] = 17,
    padding: Annotated[
        Padding,
        typer.Option(
            "--padding",
            help="What is beyond the border: the image in a mirror, or itself again (shift and flip).",
        ),
    ] = Padding.mirror,
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    format: option.FormatOption = option.Format.table,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Images at a time; default 16, fewer where they need wide borders."),
    ] = None,
    device: option.Device = "auto",
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Measure how far each layer is from invariance and from equivariance.

    For a layer f and a transformation t: how far f(t(x)) is from f(x) (invariance) and, where f is a map, from t(f(x))
    (equivariance), relative to their norms and averaged over the images. Writes curves.png, one curve a layer;
    example.png, the first image and a unit of each map; and equivariance.json; interrupted, of the images so far.
    --model sobel is the edge detector that should be equivariant. Computes in fp32.
    """
    import torch

    from mlcli.api.outputs import claim_folder, record, refuse_existing_folder
    from mlcli.errors import DataError, Interrupted
    from mlcli.io import image_io
    from mlcli.io.files import write_json
    from mlcli.methods.visualization import motion
    from mlcli.methods.visualization.equivariance import Measure, is_map, named_layers
    from mlcli.models import registry
    from mlcli.runtime import signals
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.random_streams import rng

    claim_folder(call_of(context), output, lambda: refuse_existing_folder(output, overwrite))
    runtime = Runtime.choose(device, "fp32")
    chosen = registry.load(model, weights).to(runtime)
    named = named_layers(chosen, layer or [])
    coarsest = max((one.stride for one in named.values() if is_map(one, padding.value)), default=1)
    amounts = motion.amounts(transform.value, most, points, chosen.preprocessing.crop, coarsest)
    measure = Measure(chosen, named, transform.value, amounts, runtime, padding.value)
    paths, failures = inputs.named(images)
    # In an order of no meaning, since each is compared with the one before it as with any other
    order = torch.randperm(len(paths), generator=rng(0, "equivariance/images")).tolist()
    first, count = None, 0
    with signals.noted() as caught, Progress(len(paths), "equivariance", quiet=quiet) as bar:
        prepare, shuffled = chosen.preprocessing.prepare, [paths[number] for number in order]
        at_once = batch_size or measure.batch_size
        good = inputs.Readable(shuffled, prepare, bar, window=2 * at_once, workers=workers)
        coming = iter(good)
        while batch := [(order[place], image) for place, image in islice(coming, at_once)]:
            count += len(batch)
            first = min([*batch, *([first] if first else [])], key=lambda pair: pair[0])
            measure.add(image_io.stack([image for _, image in batch]))
            if caught:
                break
    if first is None:
        raise DataError(f"no readable image among the {len(paths)} that were named")

    options = {"images": images, "model": model, "weights": weights, "layer": layer, "transform": transform.value}
    options |= {"range": most, "points": points, "padding": padding.value, "batch_size": at_once}
    entries = [_entry(found, amounts) for found in measure.findings]
    document = record("equivariance", options, chosen, images=count, example=paths[first[0]], layers=entries)
    labels = [amount if isinstance(amount, str) else f"{amount:.4g}" for amount in amounts]
    title = f"{chosen.name}, {count} images, --padding {padding.value}"
    image_io.write(_curves(title, entries, amounts, labels, motion.UNITS[transform.value]), output / CURVES)
    image_io.write(_example(measure.example(first[1]), entries, labels), output / EXAMPLE)
    write_json(output / RECORD, document)
    out(json_text(document) if format == "json" else _text(entries, transform.value, format))
    say(f"{output}: {CURVES}, {EXAMPLE} and {RECORD}, of {count} images", quiet)
    if caught and count + good.failures < len(paths):
        raise Interrupted(f"interrupted after {count} of {len(paths)} images; the curves are of these", caught[0])
    if failures + good.failures:
        raise typer.Exit(1)


def _entry(found, amounts) -> dict:
    """A layer in the JSON; what could not be compared is null."""
    layer, nothing = found.layer, [None] * len(amounts)
    kinds = {"invariance": found.invariance, "equivariance": found.equivariance}
    values = {name: errors.mean() if errors else nothing for name, errors in kinds.items()}
    values |= {f"{name}_sd": errors.sd() if errors else nothing for name, errors in kinds.items()}
    return {
        "layer": found.name,
        "address": layer.address,
        "stride": layer.stride,
        "receptive_field": layer.receptive_field,
        "unrelated": found.unrelated.mean()[0],
        "amounts": [
            {"amount": amount, **{name: row[point] for name, row in values.items()}, "exact": found.exact[point]}
            for point, amount in enumerate(amounts)
        ],
    }


def _curves(title, entries, amounts, labels, caption):
    from mlcli.reporting.chart import Curve, Panel, chart

    def column(entry, name):
        return [point[name] for point in entry["amounts"]]

    still = [
        Curve(e["layer"], column(e, "invariance"), level=None if math.isnan(e["unrelated"]) else e["unrelated"])
        for e in entries
    ]
    moving = [Curve(e["layer"], column(e, "equivariance"), column(e, "exact")) for e in entries]
    panels = [
        Panel("invariance: |f(t(x)) - f(x)| / |f(x)|; at the right: of unrelated images", still),
        Panel("equivariance: |f(t(x)) - t(f(x))| / |t(f(x))|; dots: without interpolation", moving),
    ]
    named = isinstance(amounts[0], str)
    places = range(len(amounts)) if named else [math.log(a) for a in amounts] if amounts[0] > 0 else amounts
    return chart(title, panels, places, labels, caption, joined=not named)


def _example(example, entries, labels):
    """A row for each map, a column for some amounts: f(t(x)), t(f(x)) and |f(t(x)) - t(f(x))| on one scale."""
    from mlcli.reporting.canvas import Strip, sheet, square

    last = len(labels) - 1
    points = sorted({round(last * step / (SHOWN - 1)) for step in range(SHOWN)})
    rows = [("t(x)", [Strip([square(example.images[point], TILE)]) for point in points])]
    for entry in entries:
        pairs = [example.maps[entry["layer"]][point] for point in points] if entry["layer"] in example.maps else []
        low = min((float(values.min()) for pair in pairs for values in pair), default=0)
        high = max((float(values.max()) for pair in pairs for values in pair), default=0)
        low, span = min(low, 0), (high - min(low, 0)) or 1.0
        strips = []
        for after, before in pairs:
            tiles = (after - low) / span, (before - low) / span, (after - before).abs() / span
            strips.append(Strip([square(tile[None], TILE) for tile in tiles]))
        if strips:
            rows.append((entry["layer"], strips))
    title = "Of each map one unit: f(t(x)), t(f(x)), and the difference"
    return sheet(title, [labels[point] for point in points], rows, [3] * len(points), side=TILE)


def _text(entries, transform: str, format: str) -> str:
    if format == "csv":
        header = ["layer", *entries[0]["amounts"][0]]
        return csv_text(header, [(e["layer"], *point.values()) for e in entries for point in e["amounts"]])
    header = ("layer", "stride", "invariance", "equivariance", "without interpolation", "unrelated images")
    rows = []
    for entry in entries:
        changed = [point for point in entry["amounts"] if point["amount"] != STILL[transform]]
        exact = [point["equivariance"] for point in changed if point["exact"] and point["equivariance"] is not None]
        rows.append((
            entry["layer"],
            "all" if math.isinf(entry["stride"]) else f"{entry['stride']:g}",
            _mean([point["invariance"] for point in changed]),
            _mean([point["equivariance"] for point in changed]),
            f"{max(exact):.1e}" if exact else "",
            _mean([entry["unrelated"]]),
        ))  # fmt: skip
    return table(header, rows, right=(1, 2, 3, 4, 5))


def _mean(values) -> str:
    values = [value for value in values if value is not None and not math.isnan(value)]
    return f"{sum(values) / len(values):.3f}" if values else ""

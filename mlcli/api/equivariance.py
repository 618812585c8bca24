"""`mlcli.equivariance`: how far each layer is from invariance and from equivariance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlcli.api import common, inputs
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, say
from mlcli.counting import counted
from mlcli.errors import DataError, Interrupted
from mlcli.options import COMPUTING, METHOD, NETWORK, option, same

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from mlcli.methods.visualization.equivariance import Example, Findings, Measure
    from mlcli.models.model import Model

RECORD, CURVES, EXAMPLE = "equivariance.json", "curves.png", "example.png"
SHOWN, TILE = 5, 64  # amounts in the image of examples, and the side of its tiles in pixels
TRANSFORMS = ("shift", "rotate", "flip", "scale")
PADDINGS = ("symmetric", "circular")
PANELS = {  # titles in the image of the curves
    "invariance": "Error of invariance (dash at the right: unrelated images)",
    "equivariance": "Error of equivariance (dots: without interpolation)",
}


@dataclass(frozen=True, kw_only=True)
class EquivarianceConfig(common.UsesModel, common.ReadsImages):
    images: common.Images = common.images()
    output: Path = common.output_folder()
    transform: str = option("shift", "Transformation of the images.", choices=TRANSFORMS, panel=METHOD)
    layer: str | Sequence[str] | None = option(
        None,
        "Address or alias of a layer (see `mlcli layers`), or logits; can be given several times.",
        cli_type=list[str],
        shown_default="all stages and the logits",
        completes="layer",
        panel=NETWORK,
    )
    range: float | None = option(
        None,
        "Greatest amount of the transformation: pixels to shift, degrees to rotate, or factor to scale.",
        shown_default="twice the coarsest stride, but at least an eighth of the side; 180 degrees; a factor of 2",
        panel=METHOD,
    )
    points: int = option(
        17,
        "Number of amounts; scaling takes one more where it is even.",
        minimum=2,
        maximum=361,
        panel=METHOD,
    )
    padding: str = option(
        "symmetric",
        "Extension of images beyond their border: symmetric (by reflection) or circular (for shift and flip).",
        choices=PADDINGS,
        panel=METHOD,
    )
    batch_size: int | None = option(
        None,
        "Number of images per batch.",
        minimum=1,
        shown_default="16, fewer where images need wide borders",
        panel=COMPUTING,
    )
    device: str = same(common.Computes, "device")
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Equivariance:
    """The errors of each layer over the amounts of a transformation.

    layers: what was found of each; `layers[0].invariance.mean()` are its errors by amount, averaged over the images.
    amounts: pixels to the right, degrees counterclockwise, factors, or names of flips.
    count: number of images.  folder: where the images and equivariance.json are.  record: what is in that file.
    failures: number of images and folders that could not be read.
    """

    layers: "tuple[Findings, ...]"
    amounts: Sequence[float | str]
    count: int
    folder: Path
    record: Mapping[str, Any]
    failures: int = 0

    def as_json(self) -> Mapping[str, Any]:
        """What is in equivariance.json, and what `mlcli equivariance --format json` prints."""
        return self.record


class PartlyMeasured(Interrupted):
    """A signal came before all images were measured. result: of the images so far, which is written."""

    def __init__(self, message: str, signal_number: int, result: Equivariance):
        super().__init__(message, signal_number)
        self.result = result


@function(EquivarianceConfig)
def equivariance(call: Call[EquivarianceConfig]) -> Equivariance:
    """Measure how far each layer is from invariance and from equivariance (Lenc and Vedaldi 2015).

    For a layer f, an image x and a transformation t: how far f(t(x)) is from f(x) (invariance) and, where f is a map,
    from t(f(x)) (equivariance), relative to their norms and averaged over the images. 0 is perfect. Computes in fp32.

        >>> import mlcli
        >>> result = mlcli.equivariance("photos", transform="rotate", output="rotated")  # doctest: +SKIP
        >>> result.layers[0].equivariance.mean()  # doctest: +SKIP
        [0.0, 0.31, 0.48]

    The folder `output` holds curves.png, with one curve per layer; example.png, with the first image and a unit of each
    map; and equivariance.json. The model `sobel` is an edge detector that should be equivariant.
    Raises UsageError for a transformation that the padding does not allow, for unknown layers, and where the folder
    holds something; DataError where no image can be read; PartlyMeasured after a signal.
    """
    import torch

    from mlcli.api.layer_names import addresses
    from mlcli.api.outputs import claim_folder, refuse_existing_folder
    from mlcli.imaging import image_io
    from mlcli.methods.visualization import motion
    from mlcli.methods.visualization.equivariance import LOGITS, Measure, is_map, named_layers
    from mlcli.models import registry
    from mlcli.runtime import signals
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.random_streams import rng

    config = call.config
    claim_folder(call, config.output, lambda: refuse_existing_folder(config.output, config.overwrite))
    runtime = Runtime.choose(config.device, "fp32")
    model = registry.load(config.model, config.weights).to(runtime)
    names = inputs.listed(config.layer) if config.layer else []
    layers = named_layers(model, names)
    addresses(model, [name for name in names if name != LOGITS])
    coarsest = max((one.stride for one in layers.values() if is_map(one, config.padding)), default=1)
    amounts = motion.amounts(config.transform, config.range, config.points, model.preprocessing.crop, coarsest)
    measure = Measure(model, layers, config.transform, amounts, runtime, config.padding)
    images, failures = inputs.named(config.images)
    # In random order, since each image is compared with the one before it as an unrelated one
    order = torch.randperm(len(images), generator=rng(0, "equivariance/images")).tolist()
    batch_size = config.batch_size or measure.batch_size
    first, count = None, 0
    with signals.noted() as caught, Progress(len(images), "equivariance") as bar:
        prepare, shuffled = model.preprocessing.prepare, [images[number] for number in order]
        readable = inputs.Readable(shuffled, prepare, bar, window=2 * batch_size, workers=config.workers)
        coming = iter(readable)
        while batch := [(order[index], image) for index, image in islice(coming, batch_size)]:
            count += len(batch)
            first = min([*batch, *([first] if first else [])], key=lambda pair: pair[0])
            measure.add(image_io.stack([image for _, image in batch]))
            if caught:
                break
    if first is None:
        raise DataError(f"no readable image among the {len(images)} that were named")
    failures += readable.failures
    number, example = first
    result = _written(config, model, measure, amounts, count, str(images[number]), example, batch_size, failures)
    if caught and count + readable.failures < len(images):
        message = f"interrupted after {count} of {counted(len(images), 'image')}; the curves are of these"
        raise PartlyMeasured(message, caught[0], result)
    return result


def _written(
    config: EquivarianceConfig,
    model: "Model",
    measure: "Measure",
    amounts: Sequence[float | str],
    count: int,
    example: str,
    example_image: "Tensor",
    batch_size: int,
    failures: int,
) -> Equivariance:
    """Write the curves, the example (the name of an image, and itself) and the record; the result."""
    from mlcli.api.outputs import determining, record
    from mlcli.imaging import image_io
    from mlcli.io.files import write_json
    from mlcli.methods.visualization import motion

    output = config.output
    entries = [_entry(found, amounts) for found in measure.findings]
    layers = inputs.listed(config.layer) if config.layer else None
    options = determining(config, images=inputs.listed(config.images), layer=layers, batch_size=batch_size)
    document = record("equivariance", options, model, images=count, example=example, layers=entries)
    labels = [amount if isinstance(amount, str) else f"{amount:.4g}" for amount in amounts]
    title = f"{model.name}, {counted(count, 'image')}, --padding {config.padding}"
    image_io.write(_curves(title, entries, amounts, motion.UNITS[config.transform]), output / CURVES)
    image_io.write(_example(measure.example(example_image), entries, labels), output / EXAMPLE)
    write_json(output / RECORD, document)
    say(f"{output}: {CURVES}, {EXAMPLE} and {RECORD}, of {counted(count, 'image')}")
    return Equivariance(tuple(measure.findings), amounts, count, output, document, failures)


def _entry(found: "Findings", amounts: Sequence[float | str]) -> dict[str, Any]:
    """A layer in the JSON; what could not be compared is null."""
    layer = found.layer
    nothing: list[float | None] = [None] * len(amounts)
    errors_of = {"invariance": found.invariance, "equivariance": found.equivariance}
    values = {name: errors.mean() if errors else nothing for name, errors in errors_of.items()}
    values |= {f"{name}_sd": errors.sd() if errors else nothing for name, errors in errors_of.items()}
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


def _curves(title: str, entries: Sequence[Mapping[str, Any]], amounts: Sequence[float | str], x_label: str) -> "Image":
    """The errors of the layers over the amounts, as two panels."""
    from mlcli.reporting import charts

    x = [index if isinstance(amount, str) else amount for index, amount in enumerate(amounts)]

    def panel(error: str, y_label: str) -> charts.Panel:
        curves = [
            charts.Curve(
                entry["layer"],
                x,
                [point[error] for point in entry["amounts"]],
                dots=[point["exact"] for point in entry["amounts"]] if error == "equivariance" else (),
                level=entry["unrelated"] if error == "invariance" else None,
            )
            for entry in entries
        ]
        return charts.Panel(curves, x_label, y_label, PANELS[error])

    panels = [
        panel("invariance", "|f(t(x)) - f(x)| / |f(x)|"),
        panel("equivariance", "|f(t(x)) - t(f(x))| / |t(f(x))|"),
    ]
    names = [amount for amount in amounts if isinstance(amount, str)]
    x_scale: Literal["linear", "log"] = "linear" if names or min(x) <= 0 else "log"
    return charts.to_image(charts.panel_chart(title, panels, x_scale=x_scale, x_names=names))


def _example(example: "Example", entries: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> "Image":
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
    title = "One unit of each map: f(t(x)), t(f(x)), and the difference"
    return sheet(title, [labels[point] for point in points], rows, [3] * len(points), side=TILE)

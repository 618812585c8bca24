"""`mlcli segment`"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import complain, csv_text, out, table
from mlcli.io.output_paths import names_image

if TYPE_CHECKING:
    from mlcli.models.registry import Model


@option.reads_images
def run(
    context: typer.Context,
    trained: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run of adapt --task segment, or of its source.", show_default=False)
    ],
    images: option.Images,
    output: Annotated[
        Path, option.output_file_or_folder("The folder to write masks to; of one image, the .png to write too.")
    ],
    evaluate: Annotated[
        Path | None,
        typer.Option("--evaluate", help="A folder of true masks under equal names: report Dice of each class."),
    ] = None,
    format: option.FormatOption = option.Format.table,
    batch_size: option.BatchSize = 8,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Draw the masks of images by a trained segmenter.

    Each mask has the name of its image, as a PNG, and its size; below a folder it has the same path. It holds the
    number of the class at each pixel, 0 for the background, and a palette to look at it by. A mask by this model that
    is newer than its image is left alone, so that what was interrupted goes on, and cron and make can call again and
    again.
    """
    import torch

    from mlcli.api.folders import each_outdated
    from mlcli.data.pairs import ImageSpec
    from mlcli.errors import UsageError
    from mlcli.io.image_io import with_palette, write
    from mlcli.methods.evaluation import segmentation
    from mlcli.reporting.palette import class_colors
    from mlcli.runtime.device import Runtime

    if evaluate and not os.path.isdir(evaluate):
        raise UsageError(f"--evaluate {evaluate}: no such folder")
    if evaluate and names_image(output):
        raise UsageError(f"{output}: --evaluate compares a folder of masks; name a folder")
    if not evaluate and format != option.Format.table:
        raise UsageError("--format: is of the report; name the true masks with --evaluate")
    runtime = Runtime.choose(device, precision)
    model = segmentation.load(trained).to(runtime)
    palette = class_colors(len(model.classes))

    def make(images: torch.Tensor) -> list[torch.Tensor]:
        return segmentation.segment(model, images, runtime)

    places, failures = each_outdated(
        call_of(context),
        "segment",
        "segmented",
        images,
        output,
        {"precision": runtime.precision},
        weights=model.weights_file,
        name=lambda path: path.with_suffix(".png"),
        read=ImageSpec(model.preprocessing.channels).read,
        make=make,
        save=lambda mask, image, source, place: write(with_palette(mask, palette), place),
        endings=(".png",),
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
    )
    if evaluate and any(os.path.isfile(place) for place in places):
        failures += _evaluate(places, output, evaluate, model, format)
    if failures:
        raise typer.Exit(1)


def _evaluate(places: dict[Path, Path], output: Path, masks: Path, model: "Model", format: option.Format) -> int:
    """Print how well the masks of the images agree with the true ones; how many could not be compared."""
    from mlcli.data.pairing import match
    from mlcli.errors import DataError, ImageError
    from mlcli.io.files import json_text
    from mlcli.methods.evaluation import segmentation

    true_masks = dict(match(output, f"{output} and {masks}", output, masks).paths)
    pairs, failures = [], 0
    for place, image in places.items():
        if not os.path.isfile(place):
            continue  # the image has been named
        try:
            if place not in true_masks:
                raise DataError(f"{image}: no mask of this name in {masks}; not evaluated")
            pairs.append(segmentation.read_pair(place, true_masks[place], len(model.classes)))
        except (DataError, ImageError) as problem:
            complain(problem)
            failures += 1
    if not pairs:
        raise DataError(f"{masks}: none of the masks in it can be compared with")
    report = {"model": model.name, **segmentation.evaluate(model.classes, pairs)}
    rows = [(name, entry["dice"], entry["count"]) for name, entry in report["per_class"].items()]
    if format == "json":
        out(json_text(report))
    elif format == "csv":
        out(csv_text(("class", "dice", "count"), rows))
    else:
        low, high = report["interval"]
        text = f"Dice {report['dice']:.2%} (95 % interval {low:.2%} to {high:.2%}), {report['count']} images\n\n"
        words = [(name, "" if dice is None else f"{dice:.2%}", count) for name, dice, count in rows]
        out(text + table(("class", "Dice", "images"), words, right=(1, 2)))
    return failures

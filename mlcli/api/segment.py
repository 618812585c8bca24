"""`mlcli.segment`: the masks of images by a trained segmenter."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, complain
from mlcli.api.inputs import Readable, file_names, named
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.io import input_files
from mlcli.io.output_paths import names_image
from mlcli.options import DATA, OUTPUT, argument, option
from mlcli.runtime.batch_division import WHOLE, Shard

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.models.model import Model
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(common.ReadsImages, common.Computes):
    run: Path = argument("Run folder of `adapt --task segment`, or of one of its stages.", metavar="RUN", path="input")
    images: common.Images = common.images()
    output: Path | None = option(
        None,
        "Folder to write masks to; for a single image, also the .png file to write.",
        "-o",
        "--output",
        path="either",
        cli_required=True,
        panel=OUTPUT,
    )
    evaluate: Path | None = option(
        None,
        "Folder of true masks under equal names, to report the Dice coefficient of each class.",
        path="input",
        panel=DATA,
    )
    batch_size: int = common.batch_size(8)
    shard: str | None = common.shard()
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Segmentation:
    """The masks of images.

    files: {mask file: its image} of all images that have a mask now; empty where no output was named.
    masks: {name of an image: the class of each pixel, (H, W) uint8}, where no output was named.
    evaluation: with `evaluate`, the Dice coefficients: count, mean, 95 % interval, and of each class.
    failures: number of images that could not be read, written or compared.
    """

    model: "Model"
    files: Mapping[Path, Path] = field(default_factory=dict)
    masks: "Mapping[str, Tensor]" = field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    failures: int = 0

    def as_json(self) -> dict[str, Any]:
        """What `mlcli segment --evaluate --format json` prints; without an evaluation, the files of the masks."""
        if self.evaluation is not None:
            return {"model": self.model.name, **self.evaluation}
        return {"model": self.model.name, "masks": {str(image): str(mask) for mask, image in self.files.items()}}


@function(SegmentConfig)
def segment(call: Call[SegmentConfig]) -> Segmentation:
    """Predict the masks of images with a trained segmenter.

    Each mask has the name of its image, as a PNG, and its size; below a folder it has the same path. It holds the
    number of the class at each pixel, 0 for the background. A mask by this model that is newer than its image is left
    alone. Without an output, which images in memory need, the masks are returned.

        >>> import mlcli
        >>> result = mlcli.segment("runs/scanner-b", "scans", output="masks", evaluate="truth")  # doctest: +SKIP
        >>> result.evaluation["dice"]  # doctest: +SKIP
        0.91

    Raises UsageError where the folder holds something else, WeightsError where the run has no segmenter, DataError
    where there is no image, or none that can be compared; Interrupted after a signal, when the results in work are
    written.
    """
    from mlcli.methods.evaluation import segmentation
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

    config = call.config
    if config.evaluate and not input_files.is_folder(config.evaluate):
        raise UsageError(f"--evaluate {config.evaluate}: no such folder")
    if config.evaluate and (config.output is None or names_image(config.output)):
        raise UsageError(f"{config.output or 'no output'}: --evaluate compares a folder of masks; name a folder")
    part = Shard.parse(config.shard)
    if config.evaluate and part != WHOLE:
        raise UsageError("--evaluate: compares all masks; call it without --shard when all parts are there")
    if config.output is None and part != WHOLE:
        raise UsageError("--shard: needs a folder; name it with -o FOLDER")
    runtime = Runtime.choose(config.device, config.precision)
    processes = Processes(runtime.device)
    runtime = replace(runtime, device=processes.device)
    model = segmentation.load(config.run).to(runtime)
    if config.output is None:
        return _in_memory(config, model, runtime)
    files, failures = _written(call, config.output, model, runtime, processes, part)
    evaluation = None
    if config.evaluate and any(os.path.isfile(file) for file in files):
        evaluation, incomparable = _evaluated(files, config.output, config.evaluate, model)
        failures += incomparable
    processes.close()
    return Segmentation(model, files, evaluation=evaluation, failures=failures)


def _written(
    call: Call[SegmentConfig],
    output: Path,
    model: "Model",
    runtime: "Runtime",
    processes: "Processes",
    part: Shard,
) -> tuple[dict[Path, Path], int]:
    """({mask file: its image}, number of failures)."""
    from mlcli.api.folders import each_outdated, weights_of_run
    from mlcli.data.pairs import ImageSpec
    from mlcli.imaging.image_io import with_palette, write
    from mlcli.methods.evaluation import segmentation
    from mlcli.reporting.palette import class_colors

    config, palette = call.config, class_colors(len(model.classes))

    def make(images: "Tensor") -> "list[Tensor]":
        return segmentation.segment(model, images, runtime)

    def save(mask: "Tensor", image: "Tensor", source: Path, file: Path) -> None:
        write(with_palette(mask, palette), file)

    assert model.weights_file is not None
    return each_outdated(
        call,
        "segment",
        "segmented",
        file_names(config.images),
        output,
        {"precision": runtime.precision},
        made_by=weights_of_run(model.weights_file),
        name=lambda path: path.with_suffix(".png"),
        read=ImageSpec(model.preprocessing.channels).read,
        make=make,
        save=save,
        endings=(".png",),
        batch_size=config.batch_size,
        workers=config.workers,
        overwrite=config.overwrite,
        processes=processes,
        part=part,
    )


def _in_memory(config: SegmentConfig, model: "Model", runtime: "Runtime") -> Segmentation:
    """The masks themselves, which are not written."""
    from mlcli.imaging import image_io
    from mlcli.methods.evaluation import segmentation

    def prepare(image: "Tensor") -> "Tensor":
        return image_io.to_gray(image) if model.preprocessing.channels == 1 else image

    images, failures = named(config.images)
    masks = {}
    with Progress(len(images), "segment") as bar:
        readable = Readable(images, prepare, bar, window=2 * config.batch_size, workers=config.workers)
        for number, image in readable:
            (masks[str(images[number])],) = segmentation.segment(model, image[None], runtime)
    return Segmentation(model, masks=masks, failures=failures + readable.failures)


def _evaluated(files: Mapping[Path, Path], output: Path, masks: Path, model: "Model") -> tuple[dict[str, Any], int]:
    """(how well the masks agree with the true ones, number of those that could not be compared)."""
    from mlcli.data.pairing import match
    from mlcli.methods.evaluation import segmentation

    true_masks = dict(match(output, f"{output} and {masks}", output, masks).paths)
    pairs, failures = [], 0
    for file, image in files.items():
        if not os.path.isfile(file):
            continue  # the image has been named
        try:
            if file not in true_masks:
                raise DataError(f"{image}: no mask of this name in {masks}; not evaluated")
            pairs.append(segmentation.read_pair(file, true_masks[file], len(model.classes)))
        except (DataError, ImageError) as problem:
            complain(problem)
            failures += 1
    if not pairs:
        raise DataError(f"{masks}: none of the masks in it can be compared with")
    return segmentation.evaluate(model.classes, pairs), failures

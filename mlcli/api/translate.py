"""`mlcli.translate`: images translated by a trained generator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, inputs
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, complain, say
from mlcli.errors import ImageError, UsageError
from mlcli.io.output_paths import ENDINGS
from mlcli.methods.generation.configs import DIRECTIONS
from mlcli.options import METHOD, NETWORK, OUTPUT, argument, option
from mlcli.runtime.batch_division import WHOLE, Shard

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from mlcli.models.translators import Translator
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

DEEP = (".png", ".tif", ".tiff")  # formats that can hold 16 bits per channel


@dataclass(frozen=True, kw_only=True)
class TranslateConfig(common.ReadsImages, common.Computes):
    run: Path = argument("Run of pix2pix, cyclegan or adapt, or its file of weights.", path="input", metavar="RUN")
    images: common.Images | None = common.images(default=None)
    output: Path | None = option(
        None, "Folder to write to; for one image, the image to write.", "-o", "--output", path="either", panel=OUTPUT
    )
    direction: str | None = option(
        None,
        "Direction of the translation, for a run that translates in both directions.",
        choices=DIRECTIONS,
        shown_default="the only one of the run",
        panel=NETWORK,
    )
    tile: int = option(
        1024, "Side in pixels of the tiles into which larger images are split.", minimum=64, panel=METHOD
    )
    onnx: Path | None = option(None, "ONNX file to write the generator to.", path="file", panel=OUTPUT)
    batch_size: int = common.batch_size(8)
    shard: str | None = common.shard()
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Translations:
    """Translated images.

    files: for each current result the image that it was made of.  images: the results themselves, in the order of the
    images, where no output was named; None for an image that could not be read.  onnx: the exported generator, and
    onnx_difference: the largest difference of its output from the generator's.
    failures: number of images and folders that could not be read, and of results that could not be written.
    """

    files: Mapping[Path, Path] = field(default_factory=dict)
    images: "tuple[Image.Image | None, ...]" = ()
    onnx: Path | None = None
    onnx_difference: float | None = None
    failures: int = 0

    def as_json(self) -> dict[str, Any]:
        results = [{"image": str(image), "result": str(result)} for result, image in self.files.items()]
        exported = {"onnx": str(self.onnx), "onnx_difference": self.onnx_difference} if self.onnx else {}
        return {"results": results, **exported, "failures": self.failures}


@function(TranslateConfig)
def translate(call: Call[TranslateConfig]) -> Translations:
    """Translate images by a generator that `mlcli.pix2pix`, `mlcli.cyclegan` or `mlcli.adapt` trained.

    Into a folder, each result has the name, the size and, where its format can, the bit depth of its image; a result of
    this generator that is newer than its image is left alone. Without `output` the results are returned, as images of
    Pillow with 8 bits per channel.

        >>> import mlcli
        >>> result = mlcli.translate("runs/facades", "facades/test/A")  # doctest: +SKIP
        >>> result.images[0].size  # doctest: +SKIP
        (256, 256)

    Images that cannot be read are left out and named, and count as failures. Raises UsageError for options that do not
    go together and for a folder of results made with other options, DataError where there is no image, WeightsError
    for a file that holds no such generator, Interrupted after a signal, when the results in work are written.
    """
    from mlcli.api.outputs import refuse_existing
    from mlcli.models import translators
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

    config = call.config
    given = [] if config.images is None else inputs.listed(config.images)
    if not given and (config.output is not None or config.onnx is None):
        raise UsageError("give images to translate, or a file for --onnx, to export the generator")
    part = Shard.parse(config.shard)
    if part != WHOLE and (config.output is None or config.onnx is not None):
        raise UsageError("--shard: of images that go into a folder; name it with -o FOLDER, without --onnx")
    refuse_existing(config.onnx, config.overwrite)
    runtime = Runtime.choose(config.device, config.precision)
    processes = Processes(runtime.device)
    runtime = replace(runtime, device=processes.device)
    if processes.count > 1 and config.onnx is not None:
        raise UsageError("--onnx: one process exports; call it without torchrun")
    translator = translators.load(config.run, config.direction)
    difference = None
    if config.onnx is not None:
        from mlcli.models.exports.exporting import export, require_packages
        from mlcli.models.exports.model_subjects import of_translator

        require_packages(config.onnx)
        difference = export(of_translator(translator, config.direction), config.onnx).agreement.difference
        say(f"{config.onnx}: written; its output differs from the generator's by at most {difference:.1e}")
    files: Mapping[Path, Path] = {}
    images: tuple[Image.Image | None, ...] = ()
    failures = 0
    if given and config.output is not None:
        translator.to(runtime)
        files, failures = _into_files(call, given, config.output, translator, runtime, processes, part)
    elif given:
        images, failures = _in_memory(config, given, translator.to(runtime), runtime)
    processes.close()
    return Translations(files, images, config.onnx, difference, failures)


def _into_files(
    call: Call[TranslateConfig],
    images: Sequence[Any],
    output: Path,
    translator: "Translator",
    runtime: "Runtime",
    processes: "Processes",
    part: Shard,
) -> tuple[Mapping[Path, Path], int]:
    """({result: its image}, how many failed)."""
    from mlcli.api.folders import each_outdated, weights_of_run
    from mlcli.imaging.image_io import WRITERS
    from mlcli.methods.generation import tiled_inference
    from mlcli.models import artifacts, translators

    config = call.config
    return each_outdated(
        call,
        "translate",
        "translated",
        inputs.file_names(images),
        output,
        {"direction": config.direction, "tile": config.tile, "precision": runtime.precision},
        made_by=weights_of_run(artifacts.locate(config.run, translators.TRANSLATOR)),
        name=lambda path: path if path.suffix.lower() in WRITERS else path.with_suffix(".png"),
        read=translator.source.read,
        make=partial(
            tiled_inference.translate, translator, runtime=runtime, tile=config.tile, batch_size=config.batch_size
        ),
        save=_save,
        endings=ENDINGS,
        batch_size=config.batch_size,
        workers=config.workers,
        overwrite=config.overwrite,
        processes=processes,
        part=part,
    )


def _save(result: "Tensor", image: "Tensor", source: Path, path: Path) -> None:
    """Write a translated image as its source is: bit depth, transparency and metadata stay where the format can."""
    import torch

    from mlcli.imaging.image_io import write

    deep = image.is_floating_point() and len(result) == 1 and path.suffix.lower() in DEEP
    label_map = result.dtype == torch.uint8  # its numbers are classes
    write(result, path, bits=16 if deep else 8, like=None if label_map else source)


def _in_memory(
    config: TranslateConfig, images: Sequence[Any], translator: "Translator", runtime: "Runtime"
) -> "tuple[tuple[Image.Image | None, ...], int]":
    """(the results as images of Pillow, None for what cannot be read; how many failed)."""
    from mlcli.imaging.decoding import decode
    from mlcli.imaging.image_io import to_pillow
    from mlcli.methods.generation.tiled_inference import translate

    paths, failures = inputs.named(images)
    if translator.source.labels and not all(isinstance(path, Path) for path in paths):
        raise UsageError("this generator takes label maps, which are read from files alone; give paths")
    results: list[Image.Image | None] = []
    with Progress(len(paths), "translate") as bar:
        for number, image in decode(paths, read=translator.source.read, workers=config.workers):
            if isinstance(image, ImageError):
                failures += 1
                complain(image)
                results.append(None)
            else:
                (result,) = translate(translator, image[None], runtime, tile=config.tile, batch_size=config.batch_size)
                results.append(to_pillow(result))
            bar.to(number + 1)
    return tuple(results), failures

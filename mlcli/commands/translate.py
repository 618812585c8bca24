"""`mlcli translate`"""

from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import say
from mlcli.io.output_paths import ENDINGS


@option.reads_images
def run(
    context: typer.Context,
    trained: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run of pix2pix, cyclegan, adapt.", show_default=False)
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders (walked recursively), or - for paths on stdin.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, option.output_file_or_folder("The folder to write to; of one image, the image to write too.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option("--direction", help="AtoB or BtoA, of a run that translates both ways.")
    ] = None,
    tile: Annotated[
        int, typer.Option("--tile", min=64, help="Larger images are translated in tiles of about this side.")
    ] = 1024,
    onnx: Annotated[Path | None, option.output_file("Write the generator as an ONNX file.", "--onnx")] = None,
    batch_size: option.BatchSize = 8,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Translate images by a trained generator.

    Each result has the name, the size and, where its format can, the bit depth of its image; below a folder it has
    the same path. A result of this model, newer than its image, is left alone, so that what was interrupted goes on,
    and cron and make can call again and again.
    """
    from mlcli.errors import UsageError
    from mlcli.models import translators
    from mlcli.runtime.device import Runtime

    if direction is not None and direction not in translators.DIRECTIONS:
        raise UsageError(f"--direction {direction}: take {' or '.join(translators.DIRECTIONS)}")
    if bool(images) != (output is not None) or not (images or onnx):
        raise UsageError("give IMAGES and -o OUTPUT to translate images, --onnx FILE to export the generator, or both")
    if onnx:
        from mlcli.api.outputs import refuse_existing

        refuse_existing(onnx, overwrite)
    runtime = Runtime.choose(device, precision)
    translator = translators.load(trained, direction)
    if onnx:
        from mlcli.models.onnx import export

        difference = export(translator, onnx)
        say(f"{onnx}: written; its output differs from the generator's by at most {difference:.1e}", quiet)
    if not images:
        return
    import torch

    from mlcli.api.folders import each_outdated
    from mlcli.io.image_io import WRITERS, write
    from mlcli.methods.generation.tiled_inference import translate

    translator = translator.to(runtime)

    def make(images: torch.Tensor) -> torch.Tensor:
        return translate(translator, images, runtime, tile=tile, batch_size=batch_size)

    def save(made: torch.Tensor, image: torch.Tensor, source: Path, place: Path) -> None:
        deep = image.is_floating_point() and len(made) == 1 and place.suffix.lower() in (".png", ".tif", ".tiff")
        maps = made.dtype == torch.uint8  # whose numbers are classes
        write(made, place, bits=16 if deep else 8, like=None if maps else source)

    _, failures = each_outdated(
        call_of(context),
        "translate",
        "translated",
        images,
        output,
        {"direction": direction, "tile": tile, "precision": runtime.precision},
        weights=translators.file_of(trained),
        name=lambda path: path if path.suffix.lower() in WRITERS else path.with_suffix(".png"),
        read=translator.source.read,
        make=make,
        save=save,
        endings=ENDINGS,
        batch_size=batch_size,
        workers=workers,
        overwrite=overwrite,
    )
    if failures:
        raise typer.Exit(1)

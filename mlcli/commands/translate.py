"""`mlcli translate`"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import Progress, complain, say

if TYPE_CHECKING:
    from mlcli.engine.translators import Translator

RECORD = "translate.json"


def run(
    trained: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run of pix2pix, cyclegan, adapt.", show_default=False)
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders (walked recursively), or - for paths on stdin.", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The folder to write to.")] = None,
    direction: Annotated[
        str | None, typer.Option("--direction", help="AtoB or BtoA, of a run that translates both ways.")
    ] = None,
    tile: Annotated[
        int, typer.Option("--tile", min=64, help="Larger pictures are translated in tiles of about this side.")
    ] = 1024,
    onnx: Annotated[Path | None, typer.Option("--onnx", help="Write the generator as an ONNX file.")] = None,
    batch_size: option.BatchSize = 8,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Translate pictures by a trained generator.

    Each result has the name, the size and, where its format can, the bit depth of its picture; below a folder it has
    the same path. A result newer than its picture and the model is left alone, so that what was interrupted goes on,
    and cron and make can call again and again.
    """
    from mlcli.engine import translators
    from mlcli.engine.runtime import Runtime
    from mlcli.errors import UsageError

    if direction is not None and direction not in translators.DIRECTIONS:
        raise UsageError(f"--direction {direction}: take {' or '.join(translators.DIRECTIONS)}")
    if bool(images) != (output is not None) or not (images or onnx):
        raise UsageError(
            "give IMAGES and -o FOLDER to translate pictures, --onnx FILE to export the generator, or both"
        )
    if onnx:
        from mlcli.commands._result import refuse_existing

        refuse_existing(onnx, overwrite)
    runtime = Runtime.choose(device, precision)
    translator = translators.load(trained, direction)
    if onnx:
        from mlcli.engine.onnx import export

        difference = export(translator, onnx)
        say(f"{onnx}: written; its output differs from the generator's by at most {difference:.1e}", quiet)
    if images:
        file = translators.file_of(trained)
        options = {"direction": direction, "tile": tile, "precision": runtime.precision}
        failures = folder(
            translator.to(runtime), file, images, output, options, runtime, batch_size, workers, overwrite, quiet
        )
        if failures:
            raise typer.Exit(1)


def folder(
    translator: "Translator", file, given, output, options, runtime, batch_size, workers, overwrite, quiet
) -> int:
    """Translate what is out of date; how many pictures failed."""
    import torch

    from mlcli.commands._pictures import modified, results
    from mlcli.commands._result import record, refuse_existing_folder, refuse_others
    from mlcli.engine import files, signals
    from mlcli.engine.decoding import decode
    from mlcli.engine.images import WRITERS, write
    from mlcli.errors import DataError, ImageError, Interrupted, MlcliError, UsageError
    from mlcli.methods.translate import translate

    begun = output / RECORD
    if overwrite or not begun.is_file():
        refuse_existing_folder(output, overwrite)
    else:
        refuse_others(begun, options)

    def named(path: Path) -> Path:
        return path if path.suffix.lower() in WRITERS else path.with_suffix(".png")

    places, problems = results(given, output, named)
    if not places and not problems:
        raise DataError(f"{' '.join(given)}: no pictures there")
    jobs, since = [], modified(file)
    for place, picture in places.items():
        if os.path.exists(place) and os.path.exists(picture) and os.path.samefile(place, picture):
            problems.append(UsageError(f"{picture}: its result would replace it; name another folder"))
        elif overwrite or not place.is_file() or place.stat().st_mtime < max(modified(picture), since):
            jobs.append((picture, place))
    for problem in problems:
        complain(problem)
    if jobs:
        files.write_json(begun, record("translate", options, model=None, run=str(file), sha256=files.file_hash(file)))

    done, failures = 0, len(problems)
    waiting: list[tuple[Path, torch.Tensor]] = []

    def flush(bar: Progress) -> None:
        """Translate and write the pictures that wait, which are of one size and depth."""
        nonlocal done, failures
        if not waiting:
            return
        made = translate(
            translator, torch.stack([picture for _, picture in waiting]), runtime, tile=tile, batch_size=batch_size
        )
        for (place, picture), result in zip(waiting, made, strict=True):
            deep = (
                picture.is_floating_point() and len(result) == 1 and place.suffix.lower() in (".png", ".tif", ".tiff")
            )
            try:
                write(result, place, bits=16 if deep else 8)
                done += 1
            except MlcliError as problem:
                failures += 1
                bar.complain(problem)
        waiting.clear()

    tile = options["tile"]
    with signals.noted() as caught, Progress(len(jobs), str(output), quiet=quiet) as bar:
        pictures = [picture for picture, _ in jobs]
        for number, picture in decode(pictures, read=translator.source.read, workers=workers, window=2 * batch_size):
            if isinstance(picture, ImageError):
                failures += 1
                bar.complain(picture)
            else:
                alike = waiting and (waiting[0][1].shape, waiting[0][1].dtype) == (picture.shape, picture.dtype)
                if waiting and (not alike or len(waiting) == batch_size):
                    flush(bar)
                waiting.append((jobs[number][1], picture))
            bar.to(number + 1)
            if caught:
                flush(bar)
                raise Interrupted(
                    f"interrupted after {number + 1} of {len(jobs)} pictures; the same command goes on", caught[0]
                )
        flush(bar)
    say(f"{output}: {done} translated, {len(places) - len(jobs)} up to date", quiet)
    return failures

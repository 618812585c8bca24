"""`mlcli pairs`"""

import os
from dataclasses import astuple
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import Progress, complain, say
from mlcli.methods.synthesis.configs import INVERSES

Make = StrEnum("Make", {name.replace("-", "_"): name for name in INVERSES})
STRENGTHS = ", ".join(f"{name}: {inverse.means}" for name, inverse in INVERSES.items() if inverse.means)
KEPT = (".png", ".tif", ".tiff")  # formats without loss; a result of any other is a PNG
RECORD = "pairs.json"


@option.reads_images
def run(
    context: typer.Context,
    photos: option.Images,
    make: Annotated[Make, typer.Option("--make", help="What to make of the images.")],
    output: Annotated[Path, option.output_folder("The folder to write, with A/ and B/ in it.")],
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help=f"By --make; {STRENGTHS}. Default 4 for low-resolution, 12 for labels, else by the size of the image.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="SIDE or WIDTHxHEIGHT of the pairs, cut from the middle; default as the images."),
    ] = None,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Make aligned pairs of images for pix2pix, from a known inverse.

    B/ gets the images and A/, under equal names, what --make makes of them, as PNG (TIFF stays TIFF). A pair newer
    than its image is left alone, so what was interrupted goes on, and cron and make can call again and again.
    """
    from itertools import takewhile

    from mlcli.api.inputs import height_and_width, results
    from mlcli.api.outputs import claim_folder, record, refuse_existing_folder, refuse_others
    from mlcli.errors import DataError, ImageError, Interrupted, MlcliError, UsageError
    from mlcli.io import image_io, tally
    from mlcli.io.decoding import UNREAD, decode
    from mlcli.io.files import write_json
    from mlcli.methods.synthesis import paired_degradations
    from mlcli.runtime import device, signals

    check(make, strength)
    window = None if size is None else height_and_width(size)
    if os.path.isdir(output) and any(os.path.isdir(given) and os.path.samefile(given, output) for given in photos):
        raise UsageError(f"{output}: the folder of the images itself; name another for the pairs")
    options = {"make": make.value, "strength": strength, "size": size}
    begun = output / RECORD

    def check_folder() -> None:
        if overwrite or not os.path.isfile(begun):
            refuse_existing_folder(output, overwrite)
        else:
            refuse_others(begun, options)

    claim_folder(call_of(context), output, check_folder)
    places, problems = results(photos, output, lambda path: path if path.suffix.lower() in KEPT else png(path))
    for problem in problems:
        complain(problem)
    if not places:
        raise DataError(f"{' '.join(photos)}: no images there")
    jobs = []
    for place, photo in places.items():
        files = photo, *(output / side / place.relative_to(output) for side in "AB")
        if overwrite or not finished(*files, begun):
            jobs.append(files)
    if overwrite or not os.path.isfile(begun):
        write_json(begun, record("pairs", options))  # older pairs count as unfinished from here on

    def work(files: tuple[Path, Path, Path]) -> MlcliError | None:
        photo, a, b = files
        try:
            image = image_io.read(photo)
            x, y = paired_degradations.pair(make.value, image, strength, window)
            bits = 16 if image.is_floating_point() else 8
            image_io.write(y, b, bits=bits)
            image_io.write(x, a, bits=8 if make.value in paired_degradations.FLAT else bits)
        except MlcliError as problem:  # of one image, or of the place for it; the others may be well
            unread = isinstance(problem, ImageError)
            tally.current().leave_out(photo, UNREAD if unread else "image{s} whose pair cannot be written")
            return problem
        return None

    made, failures, done = 0, len(problems), 0
    with signals.noted() as caught, device.one_thread(), Progress(len(jobs), f"{output}", quiet=quiet) as bar:
        # After a signal no more are begun; those in hand are finished, so that no worker writes on after the command
        finished_jobs = decode(takewhile(lambda _: not caught, jobs), read=work, workers=workers)
        for done, (_, problem) in enumerate(finished_jobs, 1):
            if problem is not None:
                failures += 1
                bar.complain(problem)
            else:
                made += 1
            bar.to(done)
    if done < len(jobs):
        raise Interrupted(f"interrupted after {done} of {len(jobs)} images; the same command goes on", caught[0])
    say(f"{output}: {made} pairs made, {len(places) - len(jobs)} up to date", quiet)
    if failures:
        raise typer.Exit(1)


def check(make: Make, strength: float | None) -> None:
    """Raise UsageError for a strength that cannot be."""
    from mlcli.errors import UsageError

    if strength is None:
        return
    means, _, least, most = astuple(INVERSES[make.value])
    if not means:
        raise UsageError(f"--strength: --make {make.value} has none")
    if not least <= strength <= most:
        raise UsageError(f"--strength {strength:g}: for --make {make.value} the {means}, {least:g} to {most:g}")


def png(path: Path) -> Path:
    return path.with_suffix(".png")


def finished(photo: Path, a: Path, b: Path, begun: Path) -> bool:
    """Whether a pair is there, whole and newer than its image and than the options it was made with."""
    from mlcli.api.inputs import modified

    if not (os.path.isfile(a) and os.path.isfile(b)):
        return False
    return min(modified(a), modified(b)) >= max(modified(photo), modified(begun))

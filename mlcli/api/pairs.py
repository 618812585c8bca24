"""`mlcli.pairs`: aligned pairs of images for pix2pix, made by a known degradation."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, complain
from mlcli.api.folders import up_to_date
from mlcli.api.inputs import file_names, height_and_width, results
from mlcli.api.outputs import claim_results, record
from mlcli.counting import counted
from mlcli.errors import DataError, ImageError, Interrupted, MlcliError, UsageError
from mlcli.methods.synthesis.configs import INVERSES
from mlcli.options import METHOD, OUTPUT, option, required

STRENGTHS = ", ".join(f"{name} ({inverse.means})" for name, inverse in INVERSES.items() if inverse.means)
LOSSLESS = (".png", ".tif", ".tiff")  # formats in which results are written; that of any other image is a PNG
RECORD = "pairs.json"


@dataclass(frozen=True, kw_only=True)
class PairsConfig(common.ReadsImages):
    images: common.Paths = common.images()
    make: str = required("Degradation that makes A of the images B.", choices=tuple(INVERSES), panel=METHOD)
    output: Path = required("Folder to write, with A/ and B/ in it.", "-o", "--output", path="folder", panel=OUTPUT)
    strength: float | None = option(
        None,
        f"Strength of the degradation: {STRENGTHS}.",
        shown_default="4 for low-resolution, 12 for labels, else by the size of the image",
        panel=METHOD,
    )
    size: int | str | None = option(
        None,
        "Size of the pairs in pixels, SIDE or WIDTHxHEIGHT, cut from the middle of the images.",
        cli_type=str,
        shown_default="that of the image",
        panel=OUTPUT,
    )
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Pairs:
    """A folder of aligned pairs.

    made: number of pairs that were made now.  current: number that were up to date.  failures: number of images and
    folders that could not be read, and of pairs that could not be written.
    """

    folder: Path
    made: int
    current: int
    failures: int

    def as_json(self) -> dict[str, Any]:
        return {"folder": str(self.folder), "made": self.made, "up_to_date": self.current, "failures": self.failures}


class Files(NamedTuple):
    """An image and the pair that is made of it."""

    image: Path
    a: Path
    b: Path

    def finished(self, record_file: Path) -> bool:
        """Whether the pair is whole, and newer than its image and than the record of the options, `record_file`."""
        return up_to_date([self.a, self.b], [self.image, record_file])


@function(PairsConfig)
def pairs(call: Call[PairsConfig]) -> Pairs:
    """Make aligned pairs of images for `mlcli.pix2pix`, by a degradation whose inverse is to be learned.

    B/ gets the images and A/, under equal names, what `make` makes of them, as PNG (TIFF stays TIFF). A pair that is
    newer than its image is left alone.

        >>> import mlcli
        >>> result = mlcli.pairs("samples/photos", make="edges", size=64, output="edges2photos")
        >>> result.made
        9
        >>> mlcli.pix2pix(result.folder, output="runs/edges2photos")  # doctest: +SKIP

    Images that cannot be read, and pairs that cannot be written, are named and count as failures. Raises UsageError
    for a strength out of range and for a folder of pairs made with other options, DataError where there is no image,
    Interrupted after a signal, when the pairs that were begun are written.
    """
    from mlcli.imaging.decoding import decode
    from mlcli.io.files import write_json
    from mlcli.runtime import device, signals

    config, output, given = call.config, call.config.output, file_names(call.config.images)
    check_strength(config.make, config.strength)
    window = None if config.size is None else height_and_width(str(config.size))
    if os.path.isdir(output) and any(os.path.isdir(each) and os.path.samefile(each, output) for each in given):
        raise UsageError(f"{output}: the folder of the images itself; name another for the pairs")
    options = {"make": config.make, "strength": config.strength, "size": config.size}
    record_file = output / RECORD
    claim_results(call, output, record_file, options, config.overwrite)
    images, problems = results(given, output, _lossless)
    for problem in problems:
        complain(problem)
    if not images:
        raise DataError(f"{' '.join(given)}: no images there")
    every = [
        Files(image, *(output / side / path.relative_to(output) for side in "AB")) for path, image in images.items()
    ]
    jobs = [files for files in every if config.overwrite or not files.finished(record_file)]
    if config.overwrite or not os.path.isfile(record_file):
        write_json(record_file, record("pairs", options))  # older pairs count as unfinished from here on

    def work(files: Files) -> MlcliError | None:
        return make_pair(files, config.make, config.strength, window)

    made, failures, done = 0, len(problems), 0
    with signals.noted() as caught, device.one_thread(), Progress(len(jobs), f"{output}") as bar:
        # After a signal no more are begun; those in hand are finished, so that no worker writes on after the command
        begun_jobs: Iterable[Any] = takewhile(lambda _: not caught, jobs)
        finished_jobs = decode(begun_jobs, read=work, workers=config.workers)
        for done, (_, failure) in enumerate(finished_jobs, 1):
            if failure is not None:
                failures += 1
                bar.complain(failure)
            else:
                made += 1
            bar.to(done)
    if done < len(jobs):
        raise Interrupted(
            f"interrupted after {done} of {counted(len(jobs), 'image')}; the same command resumes", caught[0]
        )
    return Pairs(output, made, len(every) - len(jobs), failures)


def make_pair(files: Files, make: str, strength: float | None, window: tuple[int, int] | None) -> MlcliError | None:
    """Write the pair of one image; returns what stands in the way of it, for the others may be well."""
    from mlcli.imaging import image_io
    from mlcli.imaging.decoding import UNREAD
    from mlcli.io import tally
    from mlcli.methods.synthesis import paired_degradations

    try:
        image = image_io.read(files.image)
        x, y = paired_degradations.pair(make, image, strength, window)
        bits = 16 if image.is_floating_point() else 8
        image_io.write(y, files.b, bits=bits)
        image_io.write(x, files.a, bits=8 if make in paired_degradations.FLAT else bits)
    except MlcliError as problem:
        unread = isinstance(problem, ImageError)
        tally.current().leave_out(files.image, UNREAD if unread else "image{s} whose pair cannot be written")
        return problem
    return None


def check_strength(make: str, strength: float | None) -> None:
    """Raise UsageError for a strength that the degradation does not have, or that is out of its range."""
    if strength is None:
        return
    inverse = INVERSES[make]
    if not inverse.means:
        raise UsageError(f"--strength: --make {make} has none")
    if not inverse.least <= strength <= inverse.most:
        raise UsageError(
            f"--strength {strength:g}: for --make {make} the {inverse.means}, {inverse.least:g} to {inverse.most:g}"
        )


def _lossless(path: Path) -> Path:
    return path if path.suffix.lower() in LOSSLESS else path.with_suffix(".png")

"""`mlcli render`"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import Progress, say

RECORD = "render.json"
SIZES = {"digits": 28, "organs": 64}
SMALLEST = {"digits": 12, "organs": 32}


class What(StrEnum):
    digits = "digits"
    organs = "organs"


class Look(StrEnum):
    a = "a"
    b = "b"


def run(
    context: typer.Context,
    what: Annotated[What, typer.Argument(metavar="digits|organs", help="What to draw.", show_default=False)],
    output: option.Folder,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1_000_000, help="How many images.")] = 1000,
    size: Annotated[
        int | None, typer.Option("--size", max=512, help="Side of an image in pixels; default 28, organs 64.")
    ] = None,
    look: Annotated[Look, typer.Option("--look", help="Of digits pen and paper, of organs the scanner.")] = Look.a,
    fonts: Annotated[
        bool,
        typer.Option("--fonts", help="Of digits: set every second one in a font of this machine."),
    ] = False,
    seed: option.Seed = 0,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Draw labeled images: digits, or organs with their masks.

    digits: FOLDER/0 to FOLDER/9, in strokes of varied shape and slant, bright on dark: by a pen (look a) or in pale
    hairlines (b). organs: FOLDER/images and FOLDER/masks under equal names, chests as one of two scanners shows them.
    One seed gives both looks the same shapes, so that their appearance alone differs. Without --fonts the images are
    the same on every machine.
    """
    from itertools import takewhile

    from mlcli.api.outputs import claim_folder, record, refuse_existing_folder
    from mlcli.errors import Interrupted
    from mlcli.io import image_io
    from mlcli.io.decoding import decode
    from mlcli.io.files import write_json
    from mlcli.methods.synthesis import digits, phantoms
    from mlcli.reporting.palette import class_colors
    from mlcli.runtime import signals

    check(what, size, fonts)
    side = size or SIZES[what.value]
    claim_folder(call_of(context), output, lambda: refuse_existing_folder(output, overwrite))
    name = f"{{:0{len(str(count - 1))}d}}.png".format
    refuse_others(output, name, count, what)

    def digit(number: int) -> dict:
        image, label = digits.digit(number, seed, side, faces, look.value)
        return {str(label): image}

    def organs(number: int) -> dict:
        image, mask = phantoms.phantom(number, seed, side, look.value)
        return {"masks": image_io.with_palette(mask, class_colors(len(phantoms.CLASSES))), "images": image}

    def work(number: int) -> None:
        for folder, image in draw(number).items():
            image_io.write(image, output / folder / name(number), flush=False)

    faces = digits.fonts_at_hand() if fonts else []
    options = {"what": what.value, "count": count, "size": side, "look": look.value, "seed": seed}
    if what == What.digits:
        draw, facts = digit, {"fonts": [face or "Pillow's own" for face in faces]}
    else:
        draw, facts = organs, {"classes": phantoms.CLASSES}
    (output / RECORD).unlink(missing_ok=True)  # of images that are about to go
    with signals.noted() as caught, Progress(count, f"{output}", quiet=quiet) as bar:
        done = 0
        # After a signal no more are begun; those in hand are finished, so that no worker writes on after the command
        numbers = takewhile(lambda _: not caught, range(count))
        for done, _ in enumerate(decode(numbers, read=work, workers=workers), 1):
            bar.to(done)
    if done < count:
        raise Interrupted(f"interrupted after {done} of {count} images; --overwrite begins anew", caught[0])
    write_json(output / RECORD, record("render", options, **facts))
    say(f"{output}: {count} {what.value} of {side} pixels", quiet)


def refuse_others(output: Path, name, count: int, what: What) -> None:
    """Raise UsageError where an image stands in the folder that would not be replaced."""
    from mlcli.data.folders import find_images
    from mlcli.errors import UsageError
    from mlcli.methods.synthesis.digits import DIGITS

    if not os.path.isdir(output):
        return
    folders = [[str(number % DIGITS)] if what == What.digits else ["images", "masks"] for number in range(count)]
    places = {output / folder / name(number) for number in range(count) for folder in folders[number]}
    if others := [path for path in find_images([str(output)]).paths if path not in places]:
        raise UsageError(f"{output}: holds {len(others)} others, such as {others[0].name}; take another folder")


def check(what: What, size: int | None, fonts: bool) -> None:
    """Raise UsageError for options of the other kind of images, and for a size in which nothing can be seen."""
    from mlcli.errors import UsageError

    if fonts and what != What.digits:
        raise UsageError("--fonts: digits can be set in them; leave it out")
    if size is not None and size < SMALLEST[what.value]:
        raise UsageError(f"--size {size}: {what.value} take at least {SMALLEST[what.value]} pixels")

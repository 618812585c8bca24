"""`mlcli render`"""

from enum import StrEnum
from typing import Annotated

import typer

from mlcli.commands import _options as option
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
    what: Annotated[What, typer.Argument(metavar="digits|organs", help="What to draw.", show_default=False)],
    output: option.Folder,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1_000_000, help="How many pictures.")] = 1000,
    size: Annotated[
        int | None, typer.Option("--size", max=1024, help="Side of a picture in pixels; default 28, organs 64.")
    ] = None,
    look: Annotated[Look | None, typer.Option("--look", help="Of organs: the scanner, a (the default) or b.")] = None,
    fonts: Annotated[
        bool,
        typer.Option("--fonts", help="Of digits: set every second one in a font of this machine."),
    ] = False,
    seed: option.Seed = 0,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Draw labelled pictures: digits, or organs with their masks.

    digits: FOLDER/0 to FOLDER/9, in strokes of varied shape, slant and width, bright on dark. organs: FOLDER/images and
    FOLDER/masks under equal names, chests as one of two scanners shows them; one seed gives both looks the same
    anatomies, so that their appearance alone differs. Without --fonts the pictures are the same on every machine.
    """
    import torch

    from mlcli.commands._result import record, refuse_existing_folder
    from mlcli.engine import images, signals
    from mlcli.engine.files import write_json
    from mlcli.engine.folders import decode
    from mlcli.errors import Interrupted
    from mlcli.methods import digits, phantoms

    check(what, size, look, fonts)
    side, scanner = size or SIZES[what.value], look or Look.a
    refuse_existing_folder(output, overwrite)
    faces = digits.fonts_at_hand() if fonts else []
    name = f"{{:0{len(str(count - 1))}d}}.png".format

    def draw_digit(number: int) -> None:
        picture, label = digits.digit(number, seed, side, faces)
        images.write(picture, output / str(label) / name(number), flush=False)

    def draw_organs(number: int) -> None:
        picture, mask = phantoms.phantom(number, seed, side, scanner.value)
        labelled = images.with_palette(mask, torch.tensor(phantoms.COLOURS))
        images.write(labelled, output / "masks" / name(number), flush=False)
        images.write(picture, output / "images" / name(number), flush=False)

    options = {"what": what.value, "count": count, "size": side, "seed": seed}
    if what == What.digits:
        draw, facts = draw_digit, {"fonts": [face or "Pillow's own" for face in faces]}
    else:
        draw, facts = draw_organs, {"look": scanner.value, "classes": phantoms.CLASSES}
    with signals.noted() as caught, Progress(count, f"{output}", quiet=quiet) as bar:
        for number, _ in decode(range(count), read=draw, workers=workers):
            bar.to(number + 1)
            if caught and number + 1 < count:
                raise Interrupted(f"interrupted after {number + 1} of {count} pictures; they are whole", caught[0])
    write_json(output / RECORD, record("render", options, **facts))
    say(f"{output}: {count} {what.value} of {side} pixels", quiet)


def check(what: What, size: int | None, look: Look | None, fonts: bool) -> None:
    """Raise UsageError for options of the other kind of pictures, and for a size in which nothing can be seen."""
    from mlcli.errors import UsageError

    if look is not None and what != What.organs:
        raise UsageError("--look: organs have one; leave it out")
    if fonts and what != What.digits:
        raise UsageError("--fonts: digits can be set in them; leave it out")
    if size is not None and size < SMALLEST[what.value]:
        raise UsageError(f"--size {size}: {what.value} take at least {SMALLEST[what.value]} pixels")

"""`mlcli.render`: synthetic labeled images: digits, organs with their masks, or a pendulum at its angles."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, Config, function
from mlcli.api.events import Progress
from mlcli.counting import counted
from mlcli.errors import Interrupted, UsageError
from mlcli.options import COMPUTING, OUTPUT, argument, option, required

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

RECORD = "render.json"
DIGITS, ORGANS, PENDULUM = "digits", "organs", "pendulum"
SIZES = {DIGITS: 28, ORGANS: 64, PENDULUM: 32}  # of the sides of images, in pixels
SMALLEST = {DIGITS: 12, ORGANS: 32, PENDULUM: 16}  # in which something can be recognized


@dataclass(frozen=True, kw_only=True)
class RenderConfig(Config):
    what: str = argument(
        "Images to draw: digits, organs with masks, or a pendulum in class folders of its angle in degrees.",
        choices=tuple(SIZES),
        metavar="|".join(SIZES),
    )
    output: Path = required("Folder to write.", "-o", "--output", path="folder", panel=OUTPUT)
    count: int = option(1000, "Number of images.", "-n", "--count", minimum=1, maximum=1_000_000)
    size: int | None = option(
        None,
        "Side of the images in pixels.",
        maximum=512,
        shown_default=", ".join(f"{size} for {what}" for what, size in SIZES.items()),
    )
    style: str = option(
        "a",
        "Style of the images: pen and paper of digits, scanner of organs, camera of a pendulum.",
        choices=("a", "b"),
    )
    fonts: bool = option(False, "Set every second digit in a font of this machine instead of drawing it.")
    seed: int = common.seed()
    workers: int | None = option(
        None, "Number of drawing threads.", minimum=1, shown_default="one per core", panel=COMPUTING
    )
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Rendering:
    """The images drawn: how many, the side of each in pixels, and the record that is in the folder too."""

    folder: Path
    count: int
    size: int
    record: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What render.json holds: the options, and the fonts of digits or the classes of masks."""
        return dict(self.record)


@function(RenderConfig)
def render(call: Call[RenderConfig]) -> Rendering:
    """Draw labeled images, which cost nothing to label: digits, or organs with their masks.

    digits: output/0 to output/9, gray, bright strokes on dark, of varied shape and slant (the simulated domain of
    Shrivastava et al. 2017, for handwriting). organs: output/images and output/masks under equal names, chests whose
    masks hold the number of the class at each pixel. pendulum: output/000 to output/355, gray, named for the angle in
    degrees, in steps of 5: 0 upright, positive counterclockwise. Both styles of one seed have the same shapes, so that
    their appearance alone differs. Without fonts the images are the same on every machine.

        >>> import mlcli
        >>> drawn = mlcli.render("digits", output="drawn", count=500, style="b")  # doctest: +SKIP
        >>> mlcli.train("drawn", output="runs/drawn")  # doctest: +SKIP

    Raises UsageError for a size in which nothing can be recognized, and where the folder holds something else.
    """
    from itertools import takewhile

    from mlcli.api.outputs import claim_folder, record, refuse_existing_folder
    from mlcli.imaging import image_io
    from mlcli.imaging.decoding import decode
    from mlcli.io.files import write_json
    from mlcli.runtime import signals

    config = call.config
    _check(config)
    output, count, size = config.output, config.count, config.size or SIZES[config.what]
    claim_folder(call, output, lambda: refuse_existing_folder(output, config.overwrite))
    name = f"{{:0{len(str(count - 1))}d}}.png".format
    _refuse_others(config, name)
    draw, facts = {DIGITS: _digits, ORGANS: _organs, PENDULUM: _pendulum}[config.what](config, size)

    def work(file: str | Path) -> None:
        for folder, image in draw(int(Path(file).stem)).items():
            image_io.write(image, output / folder / file, flush=False)

    (output / RECORD).unlink(missing_ok=True)  # it tells of images that are about to be replaced
    with signals.noted() as caught, Progress(count, str(output)) as bar:
        done = 0
        # After a signal no more are begun; those in hand are finished, so that no worker writes on after the command
        names = map(name, takewhile(lambda _: not caught, range(count)))
        for done, _ in enumerate(decode(names, read=work, workers=config.workers), 1):
            bar.to(done)
    if done < count:
        raise Interrupted(
            f"interrupted after {done} of {counted(count, 'image')}; --overwrite draws them from scratch", caught[0]
        )
    options = {"what": config.what, "count": count, "size": size, "style": config.style, "seed": config.seed}
    document = record("render", options, **facts)
    write_json(output / RECORD, document)
    return Rendering(output, count, size, document)


# The images of one number by the folder that each goes to, and what the record says besides the options
_Drawing = tuple[Callable[[int], "Mapping[str, Tensor | Image.Image]"], dict[str, Any]]


def _digits(config: RenderConfig, size: int) -> _Drawing:
    from mlcli.methods.synthesis import digits

    fonts = digits.available_fonts() if config.fonts else []

    def draw(number: int) -> "dict[str, Tensor]":
        image, label = digits.digit(number, config.seed, size, fonts, config.style)
        return {str(label): image}

    return draw, {"fonts": [font or "Pillow's own" for font in fonts]}


def _organs(config: RenderConfig, size: int) -> _Drawing:
    from mlcli.imaging import image_io
    from mlcli.methods.synthesis import phantoms
    from mlcli.reporting.palette import class_colors

    palette = class_colors(len(phantoms.CLASSES))

    def draw(number: int) -> "dict[str, Tensor | Image.Image]":
        image, mask = phantoms.phantom(number, config.seed, size, config.style)
        return {"masks": image_io.with_palette(mask, palette), "images": image}

    return draw, {"classes": list(phantoms.CLASSES)}


def _pendulum(config: RenderConfig, size: int) -> _Drawing:
    from mlcli.methods.synthesis import pendulum_images

    def draw(number: int) -> "dict[str, Tensor]":
        image, angle = pendulum_images.labeled(number, config.seed, size, config.style)
        return {f"{angle:03d}": image}

    return draw, {"angles": list(pendulum_images.ANGLES)}


def _refuse_others(config: RenderConfig, name: Callable[[int], str]) -> None:
    """Raise UsageError where the folder holds an image that would not be replaced."""
    from mlcli.data.sources import find_images
    from mlcli.methods.synthesis.digits import DIGITS as CLASSES
    from mlcli.methods.synthesis.pendulum_images import ANGLES

    output = config.output
    if not os.path.isdir(output):
        return
    folders = {
        DIGITS: [[str(number)] for number in range(CLASSES)],
        ORGANS: [["images", "masks"]],
        PENDULUM: [[f"{angle:03d}"] for angle in ANGLES],
    }[config.what]  # of the images, in turns
    paths = {
        output / folder / name(number) for number in range(config.count) for folder in folders[number % len(folders)]
    }
    if others := [path for path in find_images([str(output)]).paths if path not in paths]:
        raise UsageError(
            f"{output}: holds {counted(len(others), 'other image')}, such as {others[0].name}; take another folder"
        )


def _check(config: RenderConfig) -> None:
    """Raise UsageError for options of another kind of images, and for a size in which nothing can be recognized."""
    if config.fonts and config.what != DIGITS:
        raise UsageError("--fonts: digits can be set in them; leave it out")
    if config.size is not None and config.size < SMALLEST[config.what]:
        raise UsageError(f"--size {config.size}: {config.what} take at least {SMALLEST[config.what]} pixels")

"""`mlcli analogy`"""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.api.inputs import height_and_width
from mlcli.commands import _options as option
from mlcli.commands._report import Progress, say
from mlcli.methods.painting.configs import ANALOGIES

Mode = StrEnum("Mode", list(ANALOGIES))
OF_A_AND_B = ("source_weight", "match", "color", "remap")
OPTIONS = (*OF_A_AND_B, "kappa", "levels", "passes")


class Match(StrEnum):
    luminance = "luminance"
    color = "color"


class Color(StrEnum):
    auto = "auto"
    b = "b"
    a_prime = "a-prime"


class Remap(StrEnum):
    none = "none"
    a = "a"
    b = "b"


def defaults(name: str) -> str:
    """The default of an option for each mode, for the help."""
    values = list(dict.fromkeys(str(getattr(config, name)) for config in ANALOGIES.values()))
    return values[0] if len(values) == 1 else f"by mode: {', '.join(str(getattr(r, name)) for r in ANALOGIES.values())}"


@option.reads_images
def run(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="A A_PRIME B",
            help="Three images; texture-transfer takes TEXTURE B, texture-synthesis TEXTURE alone.",
            show_default=False,
        ),
    ],
    output: option.Image,
    mode: Annotated[
        Mode, typer.Option("--mode", help="What is to be learned from A and A'; sets the defaults below.")
    ] = (Mode.filter),
    kappa: Annotated[
        float | None,
        typer.Option(
            "--kappa",
            min=0,
            help="Weight of coherence: more copies larger pieces of A'.",
            show_default=defaults("kappa"),
        ),
    ] = None,
    source_weight: Annotated[
        float | None,
        typer.Option(
            "--source-weight",
            min=0,
            max=1e6,
            help="Weight of likeness between A and B against likeness between A' and B'.",
            show_default=defaults("source_weight"),
        ),
    ] = None,
    match: Annotated[
        Match | None,
        typer.Option("--match", help="What of A and B is compared.", show_default=defaults("match")),
    ] = None,
    color: Annotated[
        Color | None,
        typer.Option(
            "--color",
            help="Take the colors from B or from A'; auto: from B unless A' has other colors than A.",
            show_default=defaults("color"),
        ),
    ] = None,
    remap: Annotated[
        Remap | None,
        typer.Option(
            "--remap",
            help="Luminance remapping: bring A and A' to the brightness and contrast of B, or B to those of A.",
            show_default=defaults("remap"),
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option("--levels", min=1, help="Levels of the pyramids, at most.", show_default=defaults("levels")),
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option("--passes", min=1, help="Times a level is revised.", show_default=defaults("passes")),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", help="Of a synthesised texture: SIDE or WIDTHxHEIGHT; default twice that of TEXTURE."),
    ] = None,
    seed: option.Seed = 0,
    device: option.Device = "auto",
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Paint B_PRIME such that A is to A_PRIME as B is to it.

    Learns a filter from one example of it: A, and A' = A filtered. Or lays out the texture A' anew: like the image B
    (texture-transfer), from nothing (texture-synthesis), or by a map B of colors that the map A of A' explains
    (texture-by-numbers). A and A' must be of one size, B may be of any.
    """
    from mlcli.api.outputs import refuse_existing, write_beside
    from mlcli.errors import UsageError
    from mlcli.io import image_io
    from mlcli.io.files import file_hash
    from mlcli.methods.painting import image_analogies
    from mlcli.runtime.device import Runtime

    refuse_existing(output, overwrite)
    image_io.output_format(output)
    values = (source_weight, match, color, remap, kappa, levels, passes)
    changed = {name: value for name, value in zip(OPTIONS, values, strict=True) if value is not None}
    config = replace(ANALOGIES[mode], **changed, seed=seed)
    if len(images) != len(config.inputs):
        raise UsageError(
            f"--mode {mode} takes {len(config.inputs)} images, {' '.join(config.inputs)}, not {len(images)}"
        )
    if mode == Mode["texture-synthesis"]:
        for name in OF_A_AND_B:
            if name in changed:
                raise UsageError(f"--{name.replace('_', '-')} compares with A and B, which --mode {mode} has not")
    elif size is not None:
        raise UsageError(f"--size is for --mode texture-synthesis; with --mode {mode} the result is as large as B")
    wanted = None if size is None else height_and_width(size)
    runtime = Runtime.choose(device)
    named = dict(zip(config.inputs, images, strict=True))
    loaded = {name: image_io.to_unit(image_io.read(path)).to(runtime.device) for name, path in named.items()}
    a_prime = loaded.get("A_PRIME", loaded.get("TEXTURE"))
    b = loaded.get("B")
    a = loaded.get("A", None if b is None else a_prime)
    if b is None and wanted is None:
        wanted = (2 * a_prime.shape[1], 2 * a_prime.shape[2])
    image_io.require_room(output, *(wanted or b.shape[1:]))
    with Progress(100, "analogy", quiet=quiet) as bar:
        result = image_analogies.create(
            a, a_prime, b, config, size=wanted, progress=lambda share: bar.to(round(100 * share))
        )
    image_io.write(result.b_prime, output)
    options = {"mode": mode, **{name: getattr(config, name) for name in OPTIONS}, "size": size, "seed": seed}
    write_beside(
        output,
        "analogy",
        options,
        images={name: {"file": path, "sha256": file_hash(path)} for name, path in named.items()},
        color=result.color,
        distance=result.distance,
    )
    height, width = result.b_prime.shape[1:]
    say(f"{output}: {width} x {height} pixels, mean distance of the neighborhoods {result.distance:.4f}", quiet)

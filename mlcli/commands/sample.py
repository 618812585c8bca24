"""`mlcli sample`"""

from pathlib import Path
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._bridge import call_of
from mlcli.commands._report import Progress, say
from mlcli.io.output_paths import names_image


def run(
    context: typer.Context,
    generator: Annotated[Path, typer.Argument(metavar="RUN", help="A run of mlcli gan.", show_default=False)],
    output: Annotated[
        Path,
        option.output_file_or_folder("An image (.png, .jpg, .webp, .tif), or a folder for single images."),
    ],
    number: Annotated[
        int, typer.Option("-n", "--number", min=1, help="Images in all, rounded up to whole rows or classes.")
    ] = 64,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Each row goes from one point of the noise to another.")
    ] = False,
    columns: Annotated[
        int | None, typer.Option("--columns", min=1, help="Images in a row; default by their number.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only this class of a conditional generator; can be given several times."),
    ] = None,
    truncation: Annotated[
        float | None,
        typer.Option("--truncation", min=0.05, help="Draw noise beyond it anew: more typical, less varied images."),
    ] = None,
    seed: option.Seed = 0,
    device: option.Device = "auto",
    precision: option.PrecisionOption = option.Precision.auto,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Draw images from a generator that `mlcli gan` trained.

    Into an image they come as a grid, those of a conditional generator with a row for each class; into a folder one
    by one, in class folders. With --interpolate each row goes in equal steps from one random point to another; columns
    are then 8.
    """
    from mlcli.api.outputs import claim_folder, refuse_existing, refuse_existing_folder, write_beside
    from mlcli.io import image_io
    from mlcli.methods.generation import sampling
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.random_streams import rng

    separate = not names_image(output)
    if separate:
        claim_folder(call_of(context), output, lambda: refuse_existing_folder(output, overwrite))
    else:
        refuse_existing(output, overwrite)
    runtime = Runtime.choose(device, precision)
    sampler = sampling.load(generator, runtime)
    labels = [sampler.class_index(name) for name in only or ()]
    drawn = sampling.draw(
        sampler,
        number,
        rng(seed, "sample/latent"),
        labels=labels,
        columns=columns,
        interpolate=interpolate,
        truncation=truncation,
    )
    if separate:
        _write_each(sampler, drawn, output, quiet)
    else:
        image_io.write(sampler.grid(*drawn), output)
    options = {"run": generator, "number": len(drawn.labels), "interpolate": interpolate, "columns": drawn.columns}
    options |= {"class": only or [], "truncation": truncation, "seed": seed, "precision": runtime.precision}
    write_beside(output, "sample", options, sampler)
    say(f"{output}: {len(drawn.labels)} images", quiet)


def _write_each(sampler, drawn, folder: Path, quiet: bool) -> None:
    """The images as FOLDER/NNNNN.png, those of classes as FOLDER/CLASS/NNNNN.png."""
    from mlcli.io import image_io

    digits = len(str(len(drawn.labels) - 1))
    folders = _folders(sampler.classes)
    of_class = [folders[label] if folders else "" for label in drawn.labels.tolist()]
    with Progress(len(of_class), str(folder), quiet=quiet) as bar:
        for images in sampler.batches(drawn.latent, drawn.labels):
            for image in images:
                image_io.write(image, folder / of_class[bar.done] / f"{bar.done:0{digits}d}.png")
                bar.to(bar.done + 1)


def _folders(classes) -> list[str]:
    """A folder's name for each class. The names of classes come out of a file, and may be no names of folders."""
    from mlcli.io.files import file_name

    names = [file_name(name) for name in classes]
    alike = {name for name in names if [other.casefold() for other in names].count(name.casefold()) > 1}
    return [f"{name} ({number})" if name in alike else name for number, name in enumerate(names)]

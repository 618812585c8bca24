"""The options that commands share, each declared once."""

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlcli.errors import UsageError
from mlcli.io.output_paths import KINDS
from mlcli.options import OUTPUT


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


IMAGES_HELP = "Files, folders (walked recursively), or - for paths on stdin."
Images = Annotated[list[str], typer.Argument(metavar="IMAGES", help=IMAGES_HELP, show_default=False)]
DEFAULT_MODEL = "efficientnet_lite0"
MODEL_HELP = "efficientnet_lite0, cifarnet, a model of torchvision or timm, or the folder of a run (see mlcli models)."
Model = Annotated[str, typer.Option("--model", help=MODEL_HELP)]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", help="A .safetensors file or a checkpoint in place of the model's own weights."),
]
Classes = Annotated[
    Path | None,
    typer.Option("--classes", help="Names of the model's classes: a file with one a line, or a JSON list or map."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="auto takes bf16 where the hardware has it natively.")
]
ExactPrecision = Annotated[  # of commands that rank or measure, whose default is fp32
    Precision,
    typer.Option("--precision", help="auto takes bf16 where the hardware has it natively, which changes some ranks."),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="Format of the result on stdout.", rich_help_panel=OUTPUT)
]


def _parsed_by(kind: str) -> Callable[[str], Path]:
    """A parser of Typer for the path of an output."""

    def parse(text: str) -> Path:
        try:
            return KINDS[kind](text)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


PARSERS = {kind: _parsed_by(kind) for kind in ("file", "folder", "either")}


def output_file(help: str, *names: str):
    """The option for a file to write. names: default -o and --output."""
    return typer.Option(
        *(names or OUTPUT_FLAGS), help=help, parser=PARSERS["file"], metavar="FILE", rich_help_panel=OUTPUT
    )


def output_folder(help: str):
    """The option for a folder to write."""
    return typer.Option(*OUTPUT_FLAGS, help=help, parser=PARSERS["folder"], metavar="FOLDER")


def output_file_or_folder(help: str):
    """The option for an image or a folder to write, by `names_image`; a `FolderPath` stands for a folder."""
    return typer.Option(*OUTPUT_FLAGS, help=help, parser=PARSERS["either"], metavar="PATH")


OUTPUT_FLAGS = ("-o", "--output")
Output = Annotated[Path | None, output_file("Write the result to this file.")]
Image = Annotated[Path, output_file("The image to write: .png, .jpg, .webp or .tif.")]
RunFolder = Annotated[Path, output_folder("The run folder to write.")]
Folder = Annotated[Path, output_folder("The folder to write.")]
Layer = Annotated[str, typer.Option("--layer", help="A layer by address or alias (see mlcli layers).")]
Layers = Annotated[
    list[str],
    typer.Option("--layer", help="A layer by address or alias (see mlcli layers); can be given several times."),
]
Units = Annotated[str, typer.Option("--units", help="all, or units of the layer as in 0-15 or 3,7,12-20.")]
Top = Annotated[int, typer.Option("--top", min=1, max=100, help="Patches in each group of a unit.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Of the ascent.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random number.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images at a time.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Decoding threads; default one a core.")]
SaveEvery = Annotated[float, typer.Option("--save-every", min=0, help="Seconds between checkpoints.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.", rich_help_panel=OUTPUT)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print no progress and no messages but errors.", rich_help_panel=OUTPUT)
]
AcceptTruncated = Annotated[
    bool, typer.Option("--accept-truncated", help="Take what can be decoded of image files that are cut off.")
]
Stretch = Annotated[
    bool,
    typer.Option("--stretch", help="Scale 16-bit images that use 8, 10, 12 or 14 bits alone to the full range."),
]


def reads_images(run: Callable) -> Callable:
    """A command with the options of how images are read, which hold while it runs."""

    @functools.wraps(run)
    def wrapper(*args, accept_truncated: bool = False, stretch: bool = False, **kwargs):
        from mlcli.imaging import reading

        with reading.using(reading.Reading(accept_truncated, stretch)):
            return run(*args, **kwargs)

    signature = inspect.signature(run)
    more = {"accept_truncated": AcceptTruncated, "stretch": Stretch}
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in more.items()]
    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    wrapper.__annotations__ = {**run.__annotations__, **more}
    return wrapper

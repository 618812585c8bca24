"""The options that commands share, each declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the result.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write the result to this file.")]
Picture = Annotated[Path, typer.Option("-o", "--output", help="The picture to write: .png, .jpg, .webp or .tif.")]
RunFolder = Annotated[Path, typer.Option("-o", "--output", help="The run folder to write.")]
Folder = Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")]
Layer = Annotated[str, typer.Option("--layer", help="A layer by address or alias (see mlcli layers).")]
Layers = Annotated[
    list[str],
    typer.Option("--layer", help="A layer by address or alias (see mlcli layers); can be given several times."),
]
Units = Annotated[str, typer.Option("--units", help="all, or units of the layer as in 0-15 or 3,7,12-20.")]
Top = Annotated[int, typer.Option("--top", min=1, max=100, help="Patches in each group of a unit.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Of the ascent.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random number.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures at a time.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Decoding threads; default one a core.")]
SaveEvery = Annotated[float, typer.Option("--save-every", min=0, help="Seconds between checkpoints.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no messages but errors.")]

"""The options of the command line alone, which say how a result is printed; each declared once."""

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


def _parsed_by(kind: str) -> Callable[[str], Path]:
    """A parser of Typer for the path of an output."""

    def parse(text: str) -> Path:
        try:
            return KINDS[kind](text)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


PARSERS = {kind: _parsed_by(kind) for kind in ("file", "folder", "either")}

FormatOption = Annotated[
    Format, typer.Option("--format", help="Format of the result on stdout.", rich_help_panel=OUTPUT)
]
ReportFormatOption = Annotated[
    Format, typer.Option("--format", help="Format of the report of --evaluate.", rich_help_panel=OUTPUT)
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="File to write the result to, in place of stdout.",
        parser=PARSERS["file"],
        metavar="FILE",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.", rich_help_panel=OUTPUT)]
ExitStatus = Annotated[
    bool,
    typer.Option(
        "--exit-status",
        help="Exit with 0 if each pair shows the same identity, or with --gallery each image one of its identities; "
        "with 1 if not, and with 2 if an image cannot be read or anything else fails.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="Print no progress and no messages but errors.", rich_help_panel=OUTPUT)
]

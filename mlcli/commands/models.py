"""`mlcli models`"""

from dataclasses import asdict
from typing import Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import csv_text, say, table
from mlcli.io.files import json_text


def run(
    pattern: Annotated[
        str | None,
        typer.Argument(metavar="[PATTERN]", help='Names to list, such as "timm/resnet*"; default all but timm\'s.'),
    ] = None,
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """List the models that can be named.

    Each with its parameters in millions, input size, number of classes, published ImageNet top-1 accuracy in percent,
    the license of its weights, and whether they are on this disk. The folder of a run is a model too: name it with
    --model RUN.
    """
    from mlcli.commands._result import Result
    from mlcli.errors import UsageError
    from mlcli.models import registry

    result = Result(output, overwrite)
    entries = [asdict(entry) for entry in registry.catalog(pattern)]
    if not entries:
        raise UsageError(f'{pattern}: no model of such a name; try "timm/*"')
    if format == "json":
        result.write(json_text(entries))
    else:
        header = [key.replace("_", " ") for key in entries[0]]
        rows = [[_plain(value) for value in entry.values()] for entry in entries]
        result.write(csv_text(header, rows) if format == "csv" else table(header, rows, right=(1, 2, 3, 4)))
    if pattern is None:
        say(f'{registry.count_of_timm():,} more are timm\'s: mlcli models "timm/*"', quiet)


def _plain(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else value

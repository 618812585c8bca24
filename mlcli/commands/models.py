"""`mlcli models`"""

from mlcli.commands import _options as option
from mlcli.commands._report import csv_text, table
from mlcli.engine.files import json_text


def run(
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
) -> None:
    """List the models that can be named.

    Each with its parameters in millions, input size, published ImageNet top-1 accuracy, and whether its weights are
    on this disk. The folder of a run is a model too: name it with --model RUN.
    """
    from mlcli.commands._result import Result
    from mlcli.engine import models

    result = Result(output, overwrite)
    entries = models.catalogue()
    if format == "json":
        result.write(json_text(entries))
        return
    header = [key.replace("_", " ") for key in entries[0]]
    rows = [[_plain(value) for value in entry.values()] for entry in entries]
    result.write(csv_text(header, rows) if format == "csv" else table(header, rows, right=(1, 2, 3, 5)))


def _plain(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else value

"""`mlcli models`"""

from mlcli.commands import _options as option
from mlcli.commands._report import csv_text, json_text, table


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
    rows = [["" if v is None else {True: "yes", False: "no"}.get(v, v) if isinstance(v, bool) else v for v in e.values()]
            for e in entries]  # fmt: skip
    result.write(csv_text(header, rows) if format == "csv" else table(header, rows, right=(1, 2, 3, 5)))

"""`mlcli layers`"""

from mlcli.api.call import Call
from mlcli.api.layers import Layers, LayersConfig, layers
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, table
from mlcli.commands._result import Result
from mlcli.io.files import json_text


@command(LayersConfig)
def run(
    call: Call[LayersConfig],
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """List the layers of a network.

    Each with the address and alias by which other commands know it, its kind, output shape, receptive field and
    stride in input pixels at the model's own input size, and its parameters.
    """
    document = Result(output, overwrite)
    entries = call.run(layers).as_json()
    if format == "json":
        document.write(json_text(entries))
        return
    rows = [
        [" x ".join(map(str, v)) if isinstance(v, list) else "all" if v is None else v for v in entry.values()]
        for entry in entries
    ]
    header = [key.replace("_", " ") for key in Layers.KEYS]
    document.write(csv_text(header, rows) if format == "csv" else table(header, rows, right=(4, 5, 6)))

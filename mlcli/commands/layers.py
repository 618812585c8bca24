"""`mlcli layers`"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlcli.api.call import Call
from mlcli.api.layers import Layers, LayersConfig, layers
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, table
from mlcli.commands._result import Result
from mlcli.io.files import json_text

LEAST_DIMENSIONS = 3  # of a map, so that the columns of most models are the same


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

    The aliases conv1, conv2, ... mean the ends of the convolutional stages of any model. Where an alias is the address
    of another layer too, as conv1 is in a ResNet, the alias is meant, which is said on stderr; conv1@address names the
    layer of that address.
    """
    document = Result(output, overwrite)
    entries = call.run(layers).as_json()
    if format == "json":
        document.write(json_text(entries))
        return
    if format == "csv":
        document.write(_csv(entries))
        return
    rows = [
        [" x ".join(map(str, v)) if isinstance(v, list) else "all" if v is None else v for v in entry.values()]
        for entry in entries
    ]
    document.write(table([key.replace("_", " ") for key in Layers.KEYS], rows, right=(4, 5, 6)))


def _csv(entries: Sequence[Mapping[str, Any]]) -> str:
    """The shape has a column for each dimension; a receptive field, or stride, of the whole image is "all"."""
    dimensions = max(LEAST_DIMENSIONS, *(len(entry["shape"]) for entry in entries))
    sizes = [f"shape_{number}" for number in range(1, dimensions + 1)]
    rows = []
    for entry in entries:
        shape = [*entry["shape"], *[""] * (dimensions - len(entry["shape"]))]
        cells = {key: ["all" if value is None else value] for key, value in entry.items()} | {"shape": shape}
        rows.append([cell for key in Layers.KEYS for cell in cells[key]])
    return csv_text([name for key in Layers.KEYS for name in (sizes if key == "shape" else [key])], rows)

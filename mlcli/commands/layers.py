"""`mlcli layers`"""

import math

from mlcli.commands import _options as option
from mlcli.commands._report import csv_text, table
from mlcli.io.files import json_text


def run(
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
) -> None:
    """List the layers of a network.

    Each with the address and alias by which other commands know it, its kind, output shape, receptive field and
    stride in input pixels at the model's own input size, and its parameters.
    """
    from mlcli.commands._result import Result
    from mlcli.models import features, registry

    result = Result(output, overwrite)
    chosen = registry.load(model, weights, untrained=True)
    keys = ("address", "alias", "kind", "shape", "receptive_field", "stride", "parameters")
    entries = [{key: _plain(getattr(layer, key)) for key in keys} for layer in features.layers(chosen)]
    if format == "json":
        result.write(json_text(entries))
        return
    rows = [
        [" x ".join(map(str, v)) if isinstance(v, list) else "all" if v is None else v for v in entry.values()]
        for entry in entries
    ]
    header = [key.replace("_", " ") for key in keys]
    result.write(csv_text(header, rows) if format == "csv" else table(header, rows, right=(4, 5, 6)))


def _plain(value):
    """JSON knows no infinity: what sees the whole image has no receptive field to state."""
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and math.isinf(value) else value

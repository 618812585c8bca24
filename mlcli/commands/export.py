"""`mlcli export`"""

from collections.abc import Mapping
from typing import Any

import typer

from mlcli.api.call import Call
from mlcli.api.export import ExportConfig, export
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._many import taking_many
from mlcli.commands._report import csv_text, out, table
from mlcli.io.files import json_text

Parser = taking_many("--calibrate", "--check")


@command(ExportConfig)
def run(
    call: Call[ExportConfig], format: option.FormatOption = option.Format.table, quiet: option.Quiet = False
) -> None:
    """Write a model as a file that other programs run: ONNX, or OpenVINO.

    Any classifier, segmenter, Siamese network or generator. The batch may have any size. Classes, preprocessing and
    the names of the outputs are in the file. The file is compared with the model before it is written, and refused
    where they differ too much. Prints what was written, how many images agree, and the largest difference.
    """
    result = call.run(export)
    found = result.as_json()
    if format == "json":
        out(json_text(found))
    else:
        out(csv_text(("name", "value"), _numbers(found)) if format == "csv" else table(("name", "value"), _rows(found)))
    if result.failures:
        raise typer.Exit(1)


def _numbers(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The values of the JSON, one in a line; those of lists with spaces between them."""
    flat = {**found, **found["checked"]}
    del flat["checked"]
    return [(name, " ".join(map(str, value)) if isinstance(value, list) else value) for name, value in flat.items()]


def _rows(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What is worth a line, in order."""
    checked = found["checked"]
    on = "images" if checked["real_images"] else "random inputs"
    return [
        ("file", found["file"]),
        ("megabytes", f"{found['bytes'] / 1e6:.1f}"),
        ("kind", found["kind"]),
        ("ONNX opset", found["opset"]),
        ("inputs", ", ".join(found["inputs"])),
        ("outputs", ", ".join(found["outputs"])),
        ("8-bit integers", "yes" if found["quantized"] else "no"),
        (f"{checked['measure']}, of {checked['inputs']} {on}", f"{checked['agreement']:.2%}"),
        ("largest difference", f"{checked['largest_difference']:.1e}"),
    ]

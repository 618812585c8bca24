"""`mlcli benchmark`"""

from collections.abc import Mapping
from typing import Any

import typer

from mlcli.api.benchmark import BenchmarkConfig, benchmark
from mlcli.api.call import Call
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, table
from mlcli.commands._result import Result
from mlcli.counting import counted
from mlcli.io.files import json_text

HEADER = ("engine", "precision", "images/s", "ratio", "slowest", "fastest", "prepared in s", "same class", "difference")


@command(BenchmarkConfig)
def run(
    call: Call[BenchmarkConfig],
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Measure how fast a model is by engine and precision.

    Counts the images a second that the network computes; reading and decoding are not part of it. The measurements
    alternate. With IMAGES, 8-bit integers are calibrated on them and measured too. The last columns compare the
    predictions with those of torch in fp32. Says which engine and precision to take.
    """
    document = Result(output, overwrite)
    result = call.run(benchmark)
    found = result.as_json()
    if format == "json":
        document.write(json_text(found))
    elif format == "csv":
        names = [*found["measured"][0], "error"]
        document.write(csv_text(names, [[entry.get(name, "") for name in names] for entry in found["measured"]]))
    else:
        rows = [_row(entry) for entry in found["measured"]]
        document.write(table(HEADER, rows, right=range(2, len(HEADER))) + _footnote(found))
    if result.failures:
        raise typer.Exit(1)


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if "error" in entry:
        return (entry["engine"], entry["precision"], "-", *[""] * 5, entry["error"])
    return (
        entry["engine"],
        entry["precision"],
        f"{entry['images_per_second']:.1f}",
        f"{entry['ratio']:.2f}",
        f"{entry['slowest']:.1f}",
        f"{entry['fastest']:.1f}",
        f"{entry['preparation_seconds']:.1f}",
        f"{entry['same_first_class']:.1%}",
        f"{entry['largest_difference']:.1e}",
    )


def _footnote(found: Mapping[str, Any]) -> str:
    take = found["take"]
    if take["precision"] == "int8":
        how = "export it with --int8 --calibrate IMAGES, and give the file as --model"
    else:
        how = f"--engine {take['engine'].split(',')[0]} --precision {take['precision']}"
    on = counted(found["images"], "image") if found["images"] else "random inputs"
    return (
        f"Batches of {found['batch_size']} on {found['device']}; predictions compared on {on}.\n"
        f"Take {take['engine'].split(',')[0]} in {take['precision']}: {how}.\n"
    )

"""`mlcli explain`"""

from typing import TYPE_CHECKING

import typer

from mlcli.api.call import Call
from mlcli.api.explain import ExplainConfig, explain
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, out, table
from mlcli.errors import UsageError
from mlcli.io.files import json_text

if TYPE_CHECKING:
    from mlcli.methods.evaluation.faithfulness_table import FaithfulnessTable


@command(ExplainConfig)
def run(
    call: Call[ExplainConfig], format: option.ReportFormatOption = option.Format.table, quiet: option.Quiet = False
) -> None:
    """Show which parts of an image the answer of a network depends on.

    For each image, NAME.METHOD.png is the map over the image, NAME.METHOD.npy its numbers as NumPy reads them, and
    NAME.json tells the target, its value and the rest. Several methods or targets are side by side in NAME.sheet.png.
    Results that are newer than their image are left alone, so that what was interrupted is resumed, and cron and make
    can call again and again. With --evaluate, the methods are compared over all images: by how fast the answer goes as
    what is important is deleted, and comes as it is inserted, and by whether maps change when weights are random.
    """
    if not call.config.evaluate and format != option.Format.table:
        raise UsageError("--format: is of the report; ask for it with --evaluate")
    result = call.run(explain)
    if result.evaluation is not None:
        if format == "json":
            out(json_text(result.as_json()))
        else:
            out(csv_text(*_columns(result.evaluation)) if format == "csv" else _table(result.evaluation))
    if result.failures:
        raise typer.Exit(1)


def _columns(evaluation: "FaithfulnessTable") -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """The header and the rows of the CSV."""
    header: tuple[str, ...] = ("method", "count", "deletion", "insertion")
    for name in ("random", "center"):
        header += (f"over_{name}", f"over_{name}_low", f"over_{name}_high")
    header += ("sanity_half", "sanity_all", "failed_sanity")
    rows: list[tuple[object, ...]] = []
    for row in evaluation.rows:
        cells: tuple[object, ...] = (row.name, row.count, row.deletion, row.insertion)
        if row.advantages is not None and row.sanity is not None and row.failed is not None:
            cells += (*row.advantages["random"], *row.advantages["center"], *row.sanity.values(), row.failed["sanity"])
        rows.append(cells + ("",) * (len(header) - len(cells)))
    return header, rows


def _table(evaluation: "FaithfulnessTable") -> str:
    header = ("method", "maps", "deletion", "insertion", "over random", "over center", "like random weights", "fails")
    rows = []
    for row in evaluation.rows:
        cells = [row.name, row.count, f"{row.deletion:.3f}", f"{row.insertion:.3f}"]
        if row.advantages is not None and row.sanity is not None and row.failed is not None:
            for mean, low, high in row.advantages.values():
                cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
            cells.append(f"{row.sanity['half']:.2f} half, {row.sanity['all']:.2f} all")
            cells.append(f"{row.failed['sanity']} of {row.count}")
        rows.append(cells + [""] * (len(header) - len(cells)))
    return table(header, rows, right=range(1, len(header)))

"""`mlcli segment`"""

import typer

from mlcli.api.call import Call
from mlcli.api.segment import Segmentation, SegmentConfig, segment
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, out, table
from mlcli.counting import counted
from mlcli.errors import UsageError
from mlcli.io.files import json_text


@command(SegmentConfig)
def run(
    call: Call[SegmentConfig], format: option.FormatOption = option.Format.table, quiet: option.Quiet = False
) -> None:
    """Predict the masks of images with a trained segmenter.

    Each mask has the name of its image, as a PNG, and its size; below a folder it has the same path. It holds the
    number of the class at each pixel, 0 for the background, and a palette for display. A mask by this model that
    is newer than its image is left alone, so that what was interrupted is resumed, and cron and make can call again
    and again.
    """
    if call.config.evaluate is None and format != option.Format.table:
        raise UsageError("--format: is of the report; name the true masks with --evaluate")
    result = call.run(segment)
    if result.evaluation is not None:
        _print(result, format)
    if result.failures:
        raise typer.Exit(1)


def _print(result: Segmentation, format: option.Format) -> None:
    """Print how well the masks agree with the true ones."""
    report = result.as_json()
    rows = [(name, entry["dice"], entry["count"]) for name, entry in report["per_class"].items()]
    if format == "json":
        out(json_text(report))
    elif format == "csv":
        out(csv_text(("class", "dice", "count"), rows))
    else:
        low, high = report["interval"]
        count = counted(report["count"], "image")
        text = f"Dice {report['dice']:.2%} (95 % interval {low:.2%} to {high:.2%}), {count}\n\n"
        words = [(name, "" if dice is None else f"{dice:.2%}", count) for name, dice, count in rows]
        out(text + table(("class", "Dice", "images"), words, right=(1, 2)))

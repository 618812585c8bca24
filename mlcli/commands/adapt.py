"""`mlcli adapt`"""

from collections.abc import Mapping
from typing import Any

from mlcli.api.adapt import AdaptConfig, AllOptions, adapt
from mlcli.api.adaptation_tables import best, compared, facts, figures, numbers, per_class
from mlcli.api.call import Call
from mlcli.api.events import say
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, out, table
from mlcli.io.files import json_text

FEW = 20  # classes, up to which there is a table of each


@command(AllOptions)
def run(
    call: Call[AdaptConfig], format: option.FormatOption = option.Format.table, quiet: option.Quiet = False
) -> None:
    """Adapt a model from a labeled domain to an unlabeled one.

    Several methods in one run, --method adda,shot, are compared in one table.

    Where the model of the source is there already, name it with --model; shot and adabn then need TARGET alone.

    Labels of TARGET are never used, neither to train nor to choose; those of --test are read for the final table alone.
    That has source only, adapted and, with --target-labels, trained on target side by side: mean and spread over
    --seeds, intervals, a test of the difference, each class. RUN holds the model of the first seed, for
    `mlcli classify --model RUN`; a generator, where the method has one, for `mlcli translate RUN`; and each stage of
    each seed as a run folder of its own.
    """
    result = call.run(adapt)
    results = result.as_json()
    printed = {"json": json_text, "csv": lambda each: csv_text(*numbers(each))}
    out(printed.get(format, _text)(results))
    say(f"{result.folder}: done")


def _text(result: Mapping[str, Any]) -> str:
    """The tables as the terminal shows them."""
    if "methods" in result:
        header, lines = compared(result)
        return table(header, lines, right=range(1, len(header) - 2)) + f"\nmodel of the run: {best(result)}\n"
    header, lines = figures(result)
    words = table(header, lines, right=range(1, len(header))) if lines else ""
    words += "\n" + table(("", ""), facts(result))
    if "per_class" in result and len(result["per_class"]["adapted"]) <= FEW:
        header, lines = per_class(result)
        words += "\n" + table(header, lines, right=range(1, len(header)))
    return words

"""Rows as CSV that spreadsheets can open safely."""

import csv
import re
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

# What a spreadsheet takes a cell for that begins so: a formula, which can run programs and fetch addresses. The last
# four are the wide forms of the first, which some take for the same.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A CSV document. A name that a spreadsheet would take for a formula gets an apostrophe in front (as OWASP has it).

    Numbers stay as they are, negative ones too.
    """
    return csv_lines([header, *rows])


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Some lines of such a document."""
    lines: list[str] = []
    # The writer quotes what its own line ends consist of, and a carriage return in a name is to be quoted too
    writer = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerows(map(_cell, row) for row in rows)
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def _cell(value: object) -> object:
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text

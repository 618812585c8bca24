"""The tables of options in the pages, made of what the command lines are made of: the configurations.

A table lies between BEGIN and END in the page of its command; tests/docs/regenerate.py writes it there.
"""

import importlib
import inspect
import types
import typing
from dataclasses import MISSING, Field
from enum import Enum
from typing import Any, NamedTuple

from mlcli import api
from mlcli.api.call import configuration_of
from mlcli.commands import Command
from mlcli.commands._derived import METAVARS
from mlcli.options import of, options

BEGIN = "<!-- options: written by `python -m tests.docs.regenerate` -->"
END = "<!-- end of options -->"
VALUES = {int: "N", float: "X"}  # what stands for the value of an option


class Row(NamedTuple):
    """An option as the table shows it."""

    panel: str
    flags: str
    default: str
    help: str


def table(command: Command) -> str:
    """The table of a command, by the headings of its help."""
    found = rows(command)
    parts = []
    for panel in dict.fromkeys(row.panel for row in found):
        lines = [f"| {each.flags} | {each.default} | {each.help} |" for each in found if each.panel == panel]
        header = [f"**{panel}**", "", "| option | default | description |", "| --- | --- | --- |"]
        parts.append("\n".join([*header, *lines]).replace("|  |", "| |"))
    return "\n\n".join(parts)


def rows(command: Command) -> list[Row]:
    """The options of a command: of its configuration, then those of the command line alone."""
    configuration = configuration_of(api.load(api.named_after(command.name)))
    kinds = typing.get_type_hints(configuration)
    return [*(_row(each, kinds[each.name]) for each in options(configuration)), *_own(command)]


def _row(each: Field[Any], kind: Any) -> Row:
    known = of(each)
    kind = known.cli_type or kind
    needed = known.cli_required or each.default is MISSING
    several = typing.get_origin(kind) is list
    if known.argument:
        flags = _cell(f"`{known.metavar or each.name.upper()}{'...' * several}`")
        panel = "Arguments"
    else:
        names = known.flags or (f"--{each.name.replace('_', '-')}",)
        value = known.metavar or METAVARS.get(known.path) or (known.path and "PATH") or (known.choices and "CHOICE")
        flags = _flags(names, kind, value or None)
        panel = known.panel or "Options"
    text = known.help
    if known.choices:
        text += f" One of {', '.join(f'`{choice}`' for choice in known.choices)}."
    text += _limits(known.minimum, known.maximum)
    default = "required" if needed else known.shown_default or _default(each.default)
    return Row(panel, flags, _cell(default), _cell(text))


def _own(command: Command) -> list[Row]:
    """The options that `run` takes besides the call."""
    run = inspect.unwrap(importlib.import_module(f"mlcli.commands.{command.module}").run)
    hints = typing.get_type_hints(run, include_extras=True)
    found = []
    for parameter in list(inspect.signature(run).parameters.values())[1:]:
        kind, option = typing.get_args(hints[parameter.name])
        text = option.help
        if _is_choice(kind):
            text += f" One of {', '.join(f'`{choice.value}`' for choice in kind)}."
        # Typer takes the first name for a default, until it has seen that the option stands in an annotation
        names = [option.default, *option.param_decls]
        flags = _flags(names, kind, option.metavar or (_is_choice(kind) and "CHOICE") or None)
        found.append(Row(option.rich_help_panel or "Options", flags, _cell(_default(parameter.default)), _cell(text)))
    return found


def _is_choice(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _flags(names: typing.Sequence[str], kind: Any, value: str | None) -> str:
    """`-o`, `--output FILE`."""
    kinds = set(typing.get_args(kind)) if isinstance(kind, types.UnionType) else {kind}
    if kinds & {bool}:
        value = ""
    elif not value:
        of_list = {inner for each in kinds if typing.get_origin(each) is list for inner in typing.get_args(each)}
        value = next((VALUES[each] for each in (*kinds, *of_list) if each in VALUES), "TEXT")
    *others, last = (part for name in names for part in name.split("/"))
    return _cell(", ".join([*(f"`{other}`" for other in others), f"`{last} {value}".rstrip() + "`"]))


def _limits(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" At least {low:,.10g}."
    return f" At most {high:,.10g}." if low is None else f" From {low:,.10g} to {high:,.10g}."


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value in ((), "", []):
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(_default, value))
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value.value if isinstance(value, Enum) else value}`" if isinstance(value, str) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def with_table(page: str, command: Command) -> str:
    """The page with the table as it should be. Raises ValueError where it has no lines to put it between."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{command.name}.md: lacks the lines {BEGIN} and {END}")
    return f"{before}{begin}\n\n{table(command)}\n\n{end}{after}"

"""Help that can be read in a window of any width: in panels where these fit, else as a list that loses nothing.

The panels of Typer have four columns and more; where they are narrow, they cut the names of options.
"""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

PANELS_FROM = 100  # columns
INDENT = 2


class Command(TyperCommand):
    """A command with its help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        console = _console()
        if console.width >= PANELS_FROM:
            super().format_help(ctx, formatter)
        else:
            _print_list(console, self, ctx)


class Group(TyperGroup):
    """The commands with their help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        console = _console()
        if console.width >= PANELS_FROM:
            super().format_help(ctx, formatter)
            return
        commands: list[Any] = [self.commands[name] for name in self.list_commands(ctx)]
        records = [(command.rich_help_panel, command.name, command.short_help) for command in commands]
        _print_list(console, self, ctx, records)


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _print_list(console: Any, command: Any, ctx: Any, commands: Iterable[tuple[str, str, str]] = ()) -> None:
    """Print the help of a command: usage, description, and each option with its help below it."""
    from rich.text import Text

    def show(text: Text, indent: int = 0) -> None:
        for line in text.wrap(console, max(1, console.width - indent), overflow="fold"):
            line.rstrip()
            console.print(Text(" " * indent) + line)

    usage = " ".join(command.collect_usage_pieces(ctx))
    show(Text.assemble("Usage: ", (ctx.command_path, "bold"), f" {usage}"))
    for paragraph in (command.help or "").split("\n\n"):
        console.print()
        show(Text.from_markup(paragraph))
    heading = None
    for panel, name, text in (*_records(command, ctx), *commands):
        if panel != heading:
            heading = panel
            console.print()
            show(Text(panel, "bold"))
        show(Text(name, "cyan"), INDENT)
        show(Text.from_markup(text), 2 * INDENT)
    if command.epilog:
        console.print()
        show(Text.from_markup(command.epilog))


def _records(command: Any, ctx: Any) -> list[tuple[str, str, str]]:
    """(heading, names and values, help as markup) of each argument and option, those of a heading together."""
    from rich.markup import escape

    records = []
    for parameter in command.get_params(ctx):
        if record := parameter.get_help_record(ctx):
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            records.append((parameter.rich_help_panel or kind, record[0], escape(record[1])))
    order = list(dict.fromkeys(panel for panel, _, _ in records))
    return sorted(
        records, key=lambda record: (record[0] != "Arguments", record[0] != "Options", order.index(record[0]))
    )

"""Command lines derived from configurations: each option of a configuration becomes one of the command.

    @command(ClassifyConfig)
    def run(call: Call[ClassifyConfig], format: option.FormatOption = "table", ...) -> None:
        \"\"\"The help of the command.\"\"\"
        print_it(call.run(classify))

What `run` takes besides the call are options of the command line alone: how the result is printed.
"""

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field
from enum import Enum, StrEnum
from typing import Annotated, Any

import typer

from mlcli.api import completion
from mlcli.api.call import C, Call
from mlcli.commands import _options
from mlcli.options import Option, of, options

METAVARS = {"file": "FILE", "folder": "FOLDER", "either": "PATH"}


def command(configuration: type[C]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates what prints a command: it becomes a function of all options, as Typer takes one."""

    def decorate(run: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(run).parameters.values())[1:]
        types_of = typing.get_type_hints(configuration)
        derived = [_parameter(each, types_of[each.name]) for each in options(configuration)]
        names = {each.name for each in options(configuration)}

        @functools.wraps(run)
        def wrapper(context: typer.Context, **values: Any) -> None:
            sources = {name: context.get_parameter_source(name) for name in values}
            given = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
            config = configuration(**{name: _value(values[name]) for name in names})
            name = context.info_name or ""
            call = Call(name, config, frozenset(given & names), ("mlcli", *sys.argv[1:]))
            with call:
                run(call, **{each.name: values[each.name] for each in own})

        parameters = [
            inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
            *derived,
            *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own),
        ]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return decorate


def _value(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _parameter(each: Field[Any], kind: Any) -> inspect.Parameter:
    """The parameter of a Typer command that an option of a configuration is."""
    known = of(each)
    kind, default = known.cli_type or kind, each.default
    if known.choices and not known.several:
        choice = StrEnum(each.name, {value: value for value in known.choices})  # type: ignore[misc]  # made here
        kind = choice | None if _optional(kind) else choice
        default = choice(default) if isinstance(default, str) else default
    if isinstance(default, tuple):
        default = list(default)
    needed = default is MISSING or known.cli_required
    parameter = inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if needed else default,
        annotation=Annotated[kind, _typer_option(each.name, known, needed or default in (None, [], ""))],
    )
    return parameter


def _typer_option(name: str, known: Option, without_default: bool) -> Any:
    more: dict[str, Any] = {"help": known.help, "min": known.minimum, "max": known.maximum}
    more |= {"rich_help_panel": known.panel, "metavar": known.metavar or METAVARS.get(known.path)}
    if known.path in _options.PARSERS:
        more["parser"] = _options.PARSERS[known.path]
    if known.choices and known.several:
        more |= {"parser": _parser_of_several(known.choices), "metavar": f"[{'|'.join(known.choices)}]"}
        more["autocompletion"] = _completion_of_several(known.choices)
    if known.completes:
        more["autocompletion"] = _completion(known.completes)
    if known.shown_default is not None:
        more["show_default"] = known.shown_default
    elif without_default:
        more["show_default"] = False
    if known.argument:
        return typer.Argument(**more)
    return typer.Option(*(known.flags or (f"--{name.replace('_', '-')}",)), **more)


def _parser_of_several(choices: Sequence[str]) -> Callable[[str], str]:
    """A parser of Typer for a text that names one choice, or several, separated by commas."""

    def parse(text: str) -> str:
        for part in text.split(","):
            if part.strip() not in choices:
                raise typer.BadParameter(f"{part.strip()!r} is not one of {', '.join(map(repr, choices))}.")
        return text

    return parse


def _completion_of_several(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """What Typer asks for the words that a shell offers for such a text."""

    def words(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",")
        return [before + comma + each for each in choices if each.startswith(begun)]

    return words


def _completion(kind: str) -> Callable[..., list[str]]:
    """What Typer asks for the words that a shell offers."""

    def words(context: typer.Context, incomplete: str) -> list[str]:
        return completion.offered(kind, context.params, incomplete)

    return words


def _optional(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) and types.NoneType in typing.get_args(kind)

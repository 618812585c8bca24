"""The options of `mlcli adapt` that come from the configurations of its methods."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import Field
from enum import StrEnum
from typing import Annotated, Any

import typer

from mlcli.methods.adaptation.registry import METHODS, PRETRAINED, PRETRAINED_FEATURES, Adda, command_line_options
from mlcli.options import TRAINING, of

BEFORE = "format"  # the parameter of the command in front of which the options are listed


def with_method_options(run: Callable) -> Callable:
    """A command with an option for every field of a method's configuration that has a help text.

    The options are in the parameters of the command's context; `run` does not receive them.
    """
    annotations = {name: _annotation(name, uses) for name, uses in command_line_options().items()}

    @functools.wraps(run)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **{name: value for name, value in kwargs.items() if name not in annotations})

    parameters = list(inspect.signature(run).parameters.values())
    names = [parameter.name for parameter in parameters]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    added = [inspect.Parameter(name, kind, default=None, annotation=hint) for name, hint in annotations.items()]
    at = names.index(BEFORE)
    signature = inspect.Signature([*parameters[:at], *added, *parameters[at:]])
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = {**run.__annotations__, **annotations}
    return wrapper


def _annotation(name: str, uses: list[tuple[str, Field]]) -> Any:
    """The type and the Typer option of a field, for the methods that have it."""
    first, known = uses[0][1], of(uses[0][1])
    shared = len(uses) == len(METHODS)
    text = known.help if shared else f"{known.help.rstrip('.')} ({', '.join(m for m, _ in uses)})."
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=text,
        min=known.minimum,
        max=known.maximum,
        show_default=_default(name, uses),
        rich_help_panel=TRAINING if shared else "Options of single methods",
    )
    value_type: Any = type(first.default)
    if known.choices:
        value_type = StrEnum(name, {each: each for each in known.choices})  # type: ignore[misc]
    return Annotated[value_type | None, option]


def _default(name: str, uses: list[tuple[str, Field]]) -> str | bool:
    """The default as the help shows it, by method where these differ; False where the help text explains it."""
    if any(each.default is None for _, each in uses):
        return False
    values = {each.default for _, each in uses}
    text = str(uses[0][1].default) if len(values) == 1 else ", ".join(f"{m} {each.default}" for m, each in uses)
    if name in PRETRAINED:
        text += f"; with --pretrained {PRETRAINED[name]}"
    features = [m for m, _ in uses if issubclass(METHODS[m].config, Adda)]
    if name in PRETRAINED_FEATURES and features:
        text += f"; {' and '.join(features)} with --pretrained {PRETRAINED_FEATURES[name]}"
    return text

"""The options that a run folder keeps, held against what the command line would take: config.json is a file as any."""

import importlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mlcli import api
from mlcli.api.call import configuration_of
from mlcli.io import schema
from mlcli.io.schema import Check, Invalid
from mlcli.options import Option, of, options

CHAPTERS = ("visualization", "painting", "learning", "metric_learning", "generation", "control")
MODULES = (*(f"mlcli.methods.{chapter}.configs" for chapter in CHAPTERS), "mlcli.methods.adaptation.registry")


def checked(command: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The stored options of a command; any that this version does not know is kept. Raises schema.Invalid.

    What the command line names must be what it would take; a hyperparameter that has no option of its own must be of
    the kind of its default.
    """
    known, others = _of_command(command), _hyperparameters()
    for name, value in options.items():
        check = known.get(name) or others.get(name)
        if check is not None:
            try:
                check(value)
            except Invalid as problem:
                raise problem.inside(name).inside("options") from None
    return dict(options)


@cache
def _of_command(command: str) -> dict[str, Check]:
    """name: the check of each option of a command, from its configuration."""
    configuration = configuration_of(api.load(command.replace("-", "_")))
    hints = typing.get_type_hints(configuration)
    return {each.name: _check(hints[each.name], of(each)) for each in options(configuration)}


def _check(hint: Any, known: Option) -> Check:
    """The check of what an option takes, its bounds and choices among it."""
    if known.choices:
        check = schema.choice(*known.choices)
        if known.several:
            check = schema.one_or_several(check)
    else:
        inner = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
        kind = inner[0] if isinstance(hint, types.UnionType) and len(inner) == 1 else hint
        kind = str if known.cli_type is str else kind
        check = _bounded(kind, known.minimum, known.maximum)
    optional = isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)
    return schema.optional(check) if optional else check


def _bounded(kind: Any, least: float | None, most: float | None) -> Check:
    if typing.get_origin(kind) is list:
        return schema.items(_bounded(typing.get_args(kind)[0], least, most))
    if kind is bool:
        return schema.boolean
    if kind is int:
        return schema.integer(int(-(1 << 63) if least is None else least), int((1 << 63) if most is None else most))
    if kind is float:
        return schema.number(-1e308 if least is None else least, 1e308 if most is None else most)
    return schema.text() if kind in (str, Path) else schema.anything


@cache
def _hyperparameters() -> dict[str, Check]:
    """name: the check of each field of the methods' hyperparameters, whichever method has it."""
    defaults: dict[str, list[Any]] = {}
    for module in MODULES:
        for kind in vars(importlib.import_module(module)).values():
            for field in fields(kind) if is_dataclass(kind) and isinstance(kind, type) else ():
                if field.default is not MISSING:
                    choices = (of(field).choices or ()) if "option" in field.metadata else ()
                    defaults.setdefault(field.name, []).extend([field.default, *choices])
    return {name: _like(values) for name, values in defaults.items()}


def _like(defaults: list[Any]) -> Callable[[Any], Any]:
    """The check of a value of the kind of one of these; of a text, one of those themselves."""
    texts = [value for value in defaults if isinstance(value, str)]
    kinds = {type(value) for value in defaults}

    def check(value: Any) -> Any:
        if None in defaults or type(value) in (list, tuple):
            return value
        if isinstance(value, str) and texts:
            return schema.choice(*dict.fromkeys(texts))(value)
        if type(value) in kinds and not isinstance(value, str):
            return value
        return schema.number(-1e308, 1e308)(value) if kinds & {int, float} else schema.boolean(value)

    return check

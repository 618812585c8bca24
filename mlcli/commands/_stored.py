"""The options that a run folder keeps, held against what the command line would take: config.json is a file as any."""

import importlib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from mlcli.commands import COMMANDS
from mlcli.io import schema
from mlcli.io.schema import Check, Invalid


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
    """name: the check of each parameter of a command, from the annotations of its `run`."""
    (module,) = (entry.module for entry in COMMANDS if entry.name == command)
    hints = typing.get_type_hints(importlib.import_module(f"mlcli.commands.{module}").run, include_extras=True)
    return {name: _check(hint) for name, hint in hints.items() if name not in ("context", "return")}


def _check(hint: Any) -> Check:
    """The check of what an annotation of a command's parameter takes, its bounds among it."""
    least = most = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, *notes = typing.get_args(hint)
        least, most = (next((getattr(n, end) for n in notes if getattr(n, end, None) is not None), None)
                       for end in ("min", "max"))  # fmt: skip
    if isinstance(hint, types.UnionType):
        (inner,) = (kind for kind in typing.get_args(hint) if kind is not types.NoneType)
        return schema.optional(_bounded(inner, least, most))
    return _bounded(hint, least, most)


def _bounded(kind: Any, least: float | None, most: float | None) -> Check:
    if typing.get_origin(kind) is list:
        return schema.items(_bounded(typing.get_args(kind)[0], least, most))
    if kind is bool:
        return schema.boolean
    if kind is int:
        return schema.integer(int(-(1 << 63) if least is None else least), int((1 << 63) if most is None else most))
    if kind is float:
        return schema.number(-1e308 if least is None else least, 1e308 if most is None else most)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return schema.choice(*(each.value for each in kind))
    return schema.text() if kind in (str, Path) else schema.anything


@cache
def _hyperparameters() -> dict[str, Check]:
    """name: the check of each field of the methods' hyperparameters."""
    defaults: dict[str, list] = {}
    for module in ("mlcli.methods.configs", "mlcli.methods.adaptation.registry"):
        for kind in vars(importlib.import_module(module)).values():
            for field in fields(kind) if is_dataclass(kind) and isinstance(kind, type) else ():
                if field.default is not MISSING:
                    defaults.setdefault(field.name, []).append(field.default)
    return {name: _like(values) for name, values in defaults.items()}


def _like(defaults: list) -> Callable[[Any], Any]:
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

"""Fields of configurations: the default, the help and the limits of an option, declared once.

The functions of mlcli.api, the command line, the documentation and config.json all read them here. Loads no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, get_origin

# Headings of the help, in the order in which they are shown; what has none is listed under "Options".
DATA, NETWORK, METHOD, TRAINING, OUTPUT, COMPUTING = "Data", "Network", "Method", "Training", "Output", "Computing"
PENDULUM = "Pendulum"
PANELS = (DATA, PENDULUM, NETWORK, METHOD, None, TRAINING, OUTPUT, COMPUTING)


@dataclass(frozen=True)
class Option:
    """What is to be known of an option besides its name, its type and its default.

    help: a phrase that can be understood alone, with the unit.
    flags: as on the command line; by default --name, and --name/--no-name where the default is True.
    minimum, maximum: bounds of a number, both included.  choices: of a text.
    shown_default: the effective default in words, where the field's own (None) stands for a choice by model or data.
    panel: the heading of the help under which it is listed.
    path: what a path names: an "input", a "file" to write, a "folder" to write, or "either" of the two.
    cli_type: the type on the command line, where Python takes more.
    argument: whether it is given by its position.
    cli_required: whether the command line must give it, although it has a default in Python.
    applies: whether it has an effect on a run, by the options of the run; None where it always has.
    completes: what a shell offers for it: the name of a "model" with weights, of an "architecture" to train, of a
    "layer", a "device" or a "class" of a run.
    """

    help: str
    flags: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    shown_default: str | None = None
    panel: str | None = None
    metavar: str | None = None
    path: str = ""
    cli_type: Any = None
    argument: bool = False
    cli_required: bool = False
    applies: Callable[[Mapping[str, Any]], bool] | None = None
    completes: str = ""

    @property
    def several(self) -> bool:
        """Whether it takes several values."""
        return get_origin(self.cli_type) is list


def option(default: Any, help: str, *flags: str, **more: Any) -> Any:
    """A field that is given by name. more: the other attributes of `Option`."""
    return field(default=default, kw_only=True, metadata={"option": Option(help, flags, **more)})


def argument(help: str, **more: Any) -> Any:
    """A field that is given by its position, and must be given unless `more` has a default."""
    default = more.pop("default", MISSING)
    return field(default=default, kw_only=False, metadata={"option": Option(help, argument=True, **more)})


def required(help: str, *flags: str, **more: Any) -> Any:
    """A field that is given by name and must be given."""
    return field(kw_only=True, metadata={"option": Option(help, flags, **more)})


def same(configuration: type, name: str, **changes: Any) -> Any:
    """A field like that of another configuration, its default and help included.

    changes: attributes of `Option`, and `default`, that differ.
    """
    (like,) = (each for each in fields(configuration) if each.name == name)
    default = changes.pop("default", like.default)
    return field(default=default, kw_only=True, metadata={"option": replace(of(like), **changes)})


def of(each: Field[Any]) -> Option:
    """The option that a field is. Raises KeyError for a field that is none."""
    return each.metadata["option"]


def options(configuration: type) -> Sequence[Field[Any]]:
    """The fields of a configuration that are options: arguments, then by panels."""
    found = [each for each in fields(configuration) if "option" in each.metadata]
    return sorted(found, key=lambda each: -1 if of(each).argument else PANELS.index(of(each).panel))

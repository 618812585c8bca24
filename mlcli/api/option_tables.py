"""The options of a run as tables for its report: by their names on the command line, without those of no effect."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from mlcli import api
from mlcli.api.call import configuration_of
from mlcli.methods.learning.configs import Finetune, Pretext
from mlcli.options import of, options
from mlcli.reporting.sections import Section, Table

OF_THE_CALL = {"overwrite", "resume"}  # say how a run was begun, and nothing of the run
HEADER = ("option", "value")
# Of commands that leave out some options of the method, whose defaults then hold
HYPERPARAMETERS: dict[str, type] = {"finetune": Finetune, "pretext": Pretext}


def option_section(command: str, values: Mapping[str, Any]) -> Section:
    """The options in force, under the headings of the command's help.

    command: a name; for the stage of a run, which is no command, all values are shown by their names.  Options that are
    not set (None) and such as have no effect on this run are left out; so are settings of the method that are 0 or off.
    """
    known = _options(command)
    panels: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, each in known.items():
        if name in values and _applies(each, values):
            panel = "Arguments" if of(each).argument else of(each).panel or "Options"
            panels[panel].append((on_command_line(each), shown(values[name])))
    tables = [Table(HEADER, rows, panel) for panel, rows in panels.items()]
    own = {each.name: each for each in options(HYPERPARAMETERS[command])} if command in HYPERPARAMETERS else {}
    fixed = [
        (name.replace("_", " "), shown(value))
        for name, value in values.items()
        if value and name not in known and (name not in own or _applies(own[name], values))
    ]
    if fixed:
        tables.append(Table(("setting", "value"), fixed, "Set by the method" if known else ""))
    return Section("Options", tables, beside=True)


def on_command_line(each: Field[Any]) -> str:
    """The name of an option as it is typed; of an argument, its name in the help."""
    known = of(each)
    if known.argument:
        return known.metavar or each.name.upper()
    name = known.flags[-1] if known.flags else f"--{each.name.replace('_', '-')}"
    return name.split("/")[0]


def shown(value: Any) -> str:
    """The value of an option as text; empty for one that is not set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(each) for each in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _options(command: str) -> dict[str, Field[Any]]:
    """name: each option of a command, in the order of its help; empty for what is no command."""
    name = command.replace("-", "_")
    if name not in api.names():
        return {}
    return {each.name: each for each in options(configuration_of(api.load(name)))}


def _applies(each: Field[Any], values: Mapping[str, Any]) -> bool:
    """Whether an option has a value and an effect."""
    if each.name in OF_THE_CALL or values[each.name] in (None, (), []):
        return False
    applies = of(each).applies
    return applies is None or applies(defaultdict(lambda: None, values))  # an earlier version knew fewer options

"""The help of every option is a phrase that can be understood alone, in the words of the field."""

import inspect
import re
import typing

import pytest
import typer
from typer.testing import CliRunner

from mlcli import cli
from mlcli.commands import COMMANDS
from tests.cli import mlcli

# Words that the field has others for (see "Words" in the design), in the sense that help uses them.
NOT_THE_FIELDS = (
    "picture recipe colour neighbour normalis\\w* optimis\\w* initialis\\w* (?<!in.)place places share shares judge "
    "judges players moments mirror\\w* alike begins anew turned"
).split(" ")
PREPOSITIONS = "of by for with in on at to from over between among under above below as".split()


def parameters() -> list[tuple[str, str, object]]:
    """(command, parameter, its Typer option or argument) of the whole command line."""
    found = []
    commands = typer.main.get_command(cli.build()).commands
    for command in COMMANDS:
        for parameter in commands[command.name].params:
            if parameter.name != "help":
                found.append((command.name, parameter.name, parameter))
    return found


PARAMETERS = parameters()


@pytest.mark.parametrize("parameter", [p for _, _, p in PARAMETERS], ids=[f"{c}-{p}" for c, p, _ in PARAMETERS])
def test_help_can_be_understood_alone(parameter):
    text = parameter.help
    assert text and len(text.split()) >= 3 and text.endswith("."), text
    assert text[0].isupper() or not text[0].isalpha() or text.split()[0] in ("pix2pixHD",), text
    assert text.split()[0].lower() not in PREPOSITIONS, text
    assert not re.search(rf"\b({'|'.join(NOT_THE_FIELDS)})\b", text, re.IGNORECASE), text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_many_options_are_grouped(command):
    options = [p for name, _, p in PARAMETERS if name == command.name and p.param_type_name == "option"]
    panels = {option.rich_help_panel for option in options}
    assert len(options) <= 12 or len(panels) >= 4, (len(options), panels)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_options_are_those_of_the_configuration(command):
    """An option of the command line alone says how something is printed."""
    import importlib

    from mlcli import api
    from mlcli.options import of, options

    function = api.load(api.named_after(command.name))
    fields = {each.name for each in options(function.config)}
    shown = {parameter for owner, parameter, _ in PARAMETERS if owner == command.name}
    run = importlib.import_module(f"mlcli.commands.{command.module}").run
    own = set(list(inspect.signature(inspect.unwrap(run)).parameters)[1:])
    assert shown == fields | own and not fields & own
    assert own <= {"format", "output", "overwrite", "quiet"} | {"template", "exit_status"}, own
    hints = typing.get_type_hints(function.config)
    # A number that nobody gave is chosen by something, which the help says; a path that nobody gave is none.
    numbers = [each for each in options(function.config) if {int, float} & set(typing.get_args(hints[each.name]))]
    assert [each.name for each in numbers if each.default is None and not of(each).shown_default] == []


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("width", [20, 43, 80, 99, 100, 200])
def test_help_wraps_at_any_width_and_loses_nothing(width):
    app = cli.build()
    for name in ("", *(command.name for command in COMMANDS)):
        shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": str(width)}).stdout
        assert max(map(len, shown.splitlines())) <= width and "…" not in shown
        for owner, _, parameter in PARAMETERS:
            if owner == name:
                names = [parameter.metavar] if parameter.param_type_name == "argument" else parameter.opts
                assert all(squeezed(each) in squeezed(shown) for each in names)
                # Panels have columns beside each other, so their texts are in pieces
                assert width >= 100 or squeezed(parameter.help) in squeezed(shown)
        if not name:
            assert all(command.name in shown for command in COMMANDS)
            assert width >= 100 or all(squeezed(command.example) in squeezed(shown) for command in COMMANDS)


@pytest.mark.parametrize("width", [20, 80])
def test_a_usage_error_wraps_too(width):
    said = mlcli("classify", "--accept-nothing", env={"COLUMNS": str(width)}, status=2).stderr
    assert "--accept-nothing" in re.sub(r"[\s│]", "", said) and max(map(len, said.splitlines())) <= width

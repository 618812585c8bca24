"""The package as a library: what its import does, and what it offers."""

import importlib
import inspect
import subprocess
import sys

import pytest

import mlcli
from mlcli import api
from mlcli.commands import COMMANDS

CODE = """
import os, sys, warnings
before = dict(os.environ), list(warnings.filters)
import mlcli
functions = [getattr(mlcli, name) for name in dir(mlcli)]
assert before == (dict(os.environ), list(warnings.filters)), "global state has changed"
print(sorted({"torch", "numpy", "PIL", "typer", "rich"} & sys.modules.keys()))
"""


def test_importing_it_changes_nothing_and_loads_nothing_large():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_each_command_is_a_function():
    functions = {api.named_after(command.name) for command in COMMANDS}
    assert functions == api.names() <= set(dir(mlcli))
    assert api.BESIDE <= set(dir(mlcli)) and callable(mlcli.load_policy)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mlcli.nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(api.names()))
def test_a_function_has_the_parameters_of_its_configuration(name):
    function = getattr(mlcli, name)
    assert "on_progress" in inspect.signature(function).parameters
    assert inspect.signature(function).return_annotation not in (None, inspect.Signature.empty)
    source = inspect.getsource(importlib.import_module(f"mlcli.api.{name}"))
    for word in ("typer", "print(", "sys.exit", "sys.argv"):
        assert word not in source.split('"""', 2)[-1].replace("fingerprint(", ""), word

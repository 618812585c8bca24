"""One function behind each command, without the command line: a configuration goes in, a result comes out.

A module that holds `@function(...)` is that of a public function, which has the name of the module.
"""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

# Functions that no command is made of
BESIDE = frozenset({"load_policy"})


@cache
def names() -> frozenset[str]:
    """The names of the functions, without importing them."""
    modules = Path(__file__).parent.glob("*.py")
    return frozenset(module.stem for module in modules if "\n@function(" in module.read_text("utf-8"))


def named_after(command: str) -> str:
    """The name of the function behind a command. Two commands have the names of other things in the package."""
    return {"models": "list_models", "docs": "read_docs"}.get(command, command.replace("-", "_"))


def load(name: str) -> Callable[..., Any]:
    """The function of this name. Imports its module, which loads no torch before it is called."""
    return getattr(importlib.import_module(f"mlcli.api.{name}"), name)

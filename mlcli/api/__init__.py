"""One function behind each command, without the command line: a configuration goes in, a result comes out."""

import importlib
from collections.abc import Callable

# Each is the function of its name in the module of its name.
FUNCTIONS = (
    "analogy",
    "classify",
    "cyclegan",
    "doctor",
    "filters",
    "finetune",
    "gan",
    "layers",
    "list_models",
    "pairs",
    "pix2pix",
    "pretext",
    "render",
    "sample",
    "segment",
    "stylize",
    "train",
    "translate",
)


def load(name: str) -> Callable:
    """The function of this name. Imports its module, which loads no torch before it is called."""
    return getattr(importlib.import_module(f"mlcli.api.{name}"), name)

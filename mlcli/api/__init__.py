"""One function behind each command, without the command line: a configuration goes in, a result comes out.

A module that holds `@function(...)` is that of a public function, which has the name of the module.
"""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

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
    "siamese_train",
    "stylize",
    "train",
    "translate",
)


def load(name: str) -> Callable:
    """The function of this name. Imports its module, which loads no torch before it is called."""
    return getattr(importlib.import_module(f"mlcli.api.{name}"), name)

"""HTML pages from the templates beside this module. Every value is escaped, and a missing one is an error."""

import functools
import json
import os
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from mlcli.reporting import theme


def render(template: str, **values: Any) -> str:
    """The page of a template, such as "report.html", with these values in it.

    Numbers, lists and mappings are shown as JSON, and floats with six digits.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> Environment:
    """The templates, each compiled once."""
    environment = Environment(
        loader=PackageLoader("mlcli.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["url"] = _url
    environment.globals |= {"light": theme.variables(dark=False), "dark": theme.variables(dark=True)}
    return environment


def _shown(value: object) -> object:
    """What a page shows of a value; bytes of file names that are no text are shown as such."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if value is None or isinstance(value, (bool, list, tuple, dict)):
        return json.dumps(value)
    if type(value) is str:  # not Markup, which is a str that is escaped already
        return value.encode("utf-8", "backslashreplace").decode()
    return value


def _url(path: str) -> str:
    """The relative URL of a file, whatever bytes its name consists of."""
    return quote(os.fsencode(path))

"""Charts that are not drawn: matplotlib takes a tenth of a second for each, and most tests are about other things.

tests/reporting/ has the real ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any
from unittest import mock

from PIL import Image

from mlcli.reporting import charts
from mlcli.reporting.pendulums import phase_charts

REAL = {name: getattr(charts, name) for name in ("line_chart", "scatter_chart", "to_svg", "to_image")}


def to_svg(figure: Any, name: str) -> str:
    return f'<svg role="img" aria-label="{escape(name)}"/>'


def to_image(figure: Any) -> Image.Image:
    return REAL["to_image"](figure) if isinstance(figure, charts.Figure) else Image.new("RGB", (60, 40), "white")


@contextmanager
def left_out() -> Iterator[None]:
    """Line charts and scatter plots are empty meanwhile."""
    replaced = {
        "line_chart": lambda panel, **_: panel,
        "scatter_chart": lambda panels, *_, **__: panels,
        "to_svg": to_svg,
        "to_image": to_image,
    }
    phases = {name: lambda parts, **_: parts for name in ("maps_chart", "portraits_chart")}
    with mock.patch.multiple(charts, **replaced), mock.patch.multiple(phase_charts, **phases):
        yield


@contextmanager
def drawn() -> Iterator[None]:
    """Within `left_out` the real charts after all."""
    with mock.patch.multiple(charts, **REAL):
        yield

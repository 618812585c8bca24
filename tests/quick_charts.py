"""Charts and animations that are not drawn: each takes tenths of a second, and most tests are about other things.

tests/reporting/ has the real ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from typing import Any
from unittest import mock

from PIL import Image

from mlcli.reporting import charts
from mlcli.reporting.pendulums import animation, phase_charts

REAL = {name: getattr(charts, name) for name in ("line_chart", "scatter_chart", "to_svg", "to_image")}
REAL_PHASES = {name: getattr(phase_charts, name) for name in ("map_chart", "portrait_chart")}
REAL_GIF = animation.gif


def to_svg(figure: Any, name: str) -> str:
    return f'<svg role="img" aria-label="{escape(name)}"/>'


def to_image(figure: Any) -> Image.Image:
    return REAL["to_image"](figure) if isinstance(figure, charts.Figure) else Image.new("RGB", (60, 40), "white")


def first_frame(pendulums: Sequence[animation.Moving]) -> bytes:
    short = [replace(each, angles=each.angles[:1], torques=each.torques[:1]) for each in pendulums]
    return REAL_GIF(short)


@contextmanager
def left_out() -> Iterator[None]:
    """Line charts and scatter plots are empty meanwhile, and animations end with their first frame."""
    replaced = {
        "line_chart": lambda panel, **_: panel,
        "scatter_chart": lambda panels, *_, **__: panels,
        "to_svg": to_svg,
        "to_image": to_image,
    }
    phases = dict.fromkeys(REAL_PHASES, lambda shown, **_: shown)
    with mock.patch.multiple(charts, **replaced), mock.patch.multiple(phase_charts, **phases):
        with mock.patch.object(animation, "gif", first_frame):
            yield


@contextmanager
def drawn() -> Iterator[None]:
    """Within `left_out` the real charts after all."""
    with mock.patch.multiple(charts, **REAL), mock.patch.multiple(phase_charts, **REAL_PHASES):
        with mock.patch.object(animation, "gif", REAL_GIF):
            yield

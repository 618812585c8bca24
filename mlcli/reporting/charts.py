"""Line charts and scatter plots by matplotlib, as SVG for pages and as images for files.

Only matplotlib's object interface is used, with its own default style: the settings of the user's matplotlib have no
effect, and nothing of them changes. The same chart is always written as the same bytes.
"""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter
from PIL import Image
from torch import Tensor

from mlcli.printable import printable
from mlcli.reporting import theme

Dash = Literal["-", "--", ":", "-.", ""]
COLORS = tuple(light for light, _ in theme.SERIES)  # in the order of use; then they repeat, dashed
TEXT, AXIS, LINE = (theme.COLORS[name][0] for name in ("text", "axis", "line"))
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
STEPS = (1, 2, 2.5, 5, 10)  # between the numbers of an axis, times a power of ten
DPI = 100  # dots per inch of images
LARGEST = 1e30  # magnitude to which values are clamped, far from where the arithmetic of axes overflows
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; other fonts would differ from machine to machine
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "text.color": TEXT,
    "axes.edgecolor": AXIS,
    "axes.labelcolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, which can be searched and copied
}


@dataclass(frozen=True)
class Curve:
    """The values y at the positions x; None or a value that is not finite leaves a gap.

    dots: which points are marked by a dot. level: a value that is marked by a dash at the right end of the axes.
    faint: drawn thin and pale, behind a curve of the same name that smooths it; the legend leaves it out.
    filled: with color between the curve and 0.
    A curve without values is left out of its axes, but not of the legend.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    dots: Sequence[bool] = ()
    level: float | None = None
    faint: bool = False
    filled: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes. The labels of the axes name the unit.

    x_range, y_range: the ends of the axes; None for those of the curves, and then x is a number of something.
    """

    curves: Sequence[Curve]
    x_label: str
    y_label: str
    title: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class PointGroup:
    """Points (N, 2) of a scatter plot."""

    name: str
    points: Tensor


def line_chart(panel: Panel, *, width: float = 4.6, height: float = 2.5) -> Figure:
    """One panel, with a legend above it where it has several curves; y goes from the smallest value to the largest.

    width, height: in inches. Margins are fixed instead of fitted to the texts, which halves the time.
    """
    with style():
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0.78 / width, 0.5 / height, 1 - 0.95 / width, 1 - 0.8 / height))
        _draw(axes, panel, _styles([panel]), joined=True)
        told = [each for each in zip(axes.get_lines(), panel.curves, strict=True) if not each[1].faint]
        if len(told) > 1:
            lines, names = [line for line, _ in told], [text(curve.name) for _, curve in told]
            axes.legend(lines, names, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(names), borderaxespad=0.2)
    return figure


def panel_chart(
    title: str,
    panels: Sequence[Panel],
    *,
    x_scale: Literal["linear", "log"] = "linear",
    x_names: Sequence[str] = (),
    width: float = 4.6,
    height: float = 3.6,
) -> Figure:
    """Panels side by side, with one legend for all and one y axis from 0 to the largest value.

    Curves of one name have one color. A linear x axis has its numbers at positions of the first curve. x_names: names
    of the positions 0, 1, ... on the x axis, whose values are drawn as dots that no line joins. width, height: of each
    panel in inches.
    """
    with style():
        figure = Figure(figsize=(width * len(panels) + 1, height), layout="constrained")
        figure.suptitle(text(title), x=0.01, ha="left", fontsize=10)
        styles = _styles(panels)
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            axes.set_xscale(x_scale)
            _draw(axes, panel, styles, joined=not x_names)
            axes.yaxis.set_tick_params(labelleft=True)
            if x_names:
                axes.set_xticks(range(len(x_names)), [text(name) for name in x_names])
                axes.set_xlim(-0.5, len(x_names) - 0.5)
            elif x_scale == "linear" and panel.curves:
                measured = panel.curves[0].x
                axes.set_xticks(measured[:: math.ceil((len(measured) - 1) / 8) or 1])
            else:
                axes.xaxis.set_major_locator(MaxNLocator(9, steps=STEPS))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.xaxis.set_major_formatter(ScalarFormatter())
        row[0].set_ylim(bottom=0)
        handles = [Line2D([], [], color=color, linestyle=dash, linewidth=2) for color, dash in styles.values()]
        figure.legend(handles, [text(name) for name in styles], loc="outside right upper")
    return figure


def scatter_chart(
    panels: Sequence[tuple[str, Sequence[PointGroup]]],
    x_label: str,
    y_label: str,
    *,
    width: float = 3.6,
    height: float = 3.6,
) -> Figure:
    """Titles and groups of points, side by side, each with its own axes; a group has one color in all panels.

    The points are drawn in random order, so that no group covers another. width, height: of each panel in inches.
    """
    with style():
        figure = Figure(figsize=(width * len(panels), height), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, groups) in zip(row, panels, strict=True):
            points = np.concatenate([group.points.double().cpu().numpy() for group in groups])
            colors = np.repeat(COLORS[: len(groups)], [len(group.points) for group in groups])
            order = np.random.default_rng(0).permutation(len(points))
            axes.scatter(*points[order].T, s=9, c=colors[order], alpha=0.8, linewidths=0)
            axes.set(title=title, xlabel=x_label, ylabel=y_label)
        names = [group.name for group in panels[0][1]]
        dots = [Line2D([], [], color=color, marker="o", linestyle="") for color in COLORS[: len(names)]]
        figure.legend(dots, names, loc="outside upper right", ncols=len(names))
    return figure


def to_image(figure: Figure) -> Image.Image:
    """The figure as an RGB image with `DPI` dots per inch."""
    with style():
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an svg element of an HTML page, described by `name` to those who cannot see it.

    Its colors are the CSS variables of `theme`, which the page defines.

    name: different for each figure of a page, so that no two elements of the page have the same id.
    """
    buffer, name = io.StringIO(), text(name)
    with style(), matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return _inline(buffer.getvalue(), name)


def _inline(document: str, name: str) -> str:
    """An SVG document without what a page needs not: declarations, namespaces, metadata, ids that nothing refers to."""
    root = ElementTree.fromstring(document)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        element.tail = None
        if element.tag == "g":
            element.text = None
        if "d" in element.attrib:
            element.set("d", " ".join(element.attrib["d"].split()))
        if "style" in element.attrib:
            element.set("style", theme.by_variable(element.attrib["style"]))
    for metadata in root.findall("metadata"):
        root.remove(metadata)
    texts = "\n".join(value for element in root.iter() for key, value in element.items() if key != "id")
    for element in root.iter():
        if "id" in element.attrib and f"#{element.attrib['id']}" not in texts:
            del element.attrib["id"]
    root.set("role", "img")
    root.set("aria-label", name)
    return ElementTree.tostring(root, encoding="unicode")


@contextmanager
def style() -> Iterator[None]:
    """The style of this module over matplotlib's defaults; afterwards the settings are as they were before.

    A character that the font lacks is drawn as a box, without a warning.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def _styles(panels: Sequence[Panel]) -> dict[str, tuple[str, Dash]]:
    """A color and a kind of line for each name of a curve, in the order of first use."""
    names = dict.fromkeys(curve.name for panel in panels for curve in panel.curves)
    count = len(COLORS)
    return {name: (COLORS[n % count], DASHES[n // count % len(DASHES)]) for n, name in enumerate(names)}


def _draw(axes: Axes, panel: Panel, styles: dict[str, tuple[str, Dash]], *, joined: bool) -> None:
    """Draw the curves of a panel and label its axes. joined: by lines; else each value is a dot."""
    for curve in panel.curves:
        y = [min(max(v, -LARGEST), LARGEST) if _is_number(v) else math.nan for v in curve.y]
        color, dash = styles[curve.name]
        marked = [index for index, dot in enumerate(curve.dots) if dot]
        markers: dict[str, Any] = (
            {"marker": "o", "markersize": 4, "markevery": marked, "clip_on": False} if marked else {}
        )
        if not joined:
            dash, markers = "", {"marker": "o", "markersize": 5, "clip_on": False}
        if curve.faint:
            markers |= {"linewidth": 0.8, "alpha": 0.35}
        axes.plot(curve.x, y, color=color, linestyle=dash, **markers)
        if curve.filled:
            axes.fill_between(curve.x, y, color=color, alpha=0.2, linewidth=0)
        if _is_number(curve.level):
            end: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "clip_on": False,
            }  # x is a fraction of the width
            axes.plot([1.01, 1.04], [curve.level] * 2, color=color, linewidth=2, **end)
    axes.set(title=text(panel.title), xlabel=text(panel.x_label), ylabel=text(panel.y_label))
    axes.set(xlim=panel.x_range, ylim=panel.y_range)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS, integer=panel.x_range is None))


def text(name: str) -> str:
    """A name as text that an SVG file can hold."""
    return printable(name.encode("utf-8", "backslashreplace").decode())


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)

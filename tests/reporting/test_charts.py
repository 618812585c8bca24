"""Charts, measured in their pixels and in their SVG; the same chart is the same bytes."""

import subprocess
import sys
import warnings
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch

from mlcli.reporting import charts
from mlcli.reporting.charts import Curve, Panel, PointGroup


def of_color(image, color):
    """(rows, columns) of the pixels that are all of a color, such as #0072b2."""
    return np.nonzero((np.asarray(image) == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(2))


def axes_box(figure, number=0):
    """(left, right, top, bottom) of a pair of axes in pixels, of the image."""
    box = figure.axes[number].get_window_extent()
    height = figure.bbox.height
    return box.x0, box.x1, height - box.y1, height - box.y0


def test_a_curve_is_drawn_where_its_values_are():
    panels = [
        Panel(
            [Curve("a", [0, 1, 2], [0, 1, 0.5]), Curve("b", [0, 1, 2], [1, None, None], [True] * 3)], "x", "y", "one"
        ),
        Panel([], "x", "y", "two"),
    ]
    figure = charts.panel_chart("title", panels)
    image = charts.to_image(figure)
    assert image.size == (1020, 360)
    left, right, top, bottom = axes_box(figure)
    at = figure.axes[0].transData.transform
    rows, columns = of_color(image, charts.COLORS[0])
    curve = columns < right
    for x, y in ((0, 0), (1, 1), (2, 0.5)):
        column, row = at((x, y)) * [1, -1] + [0, image.height]
        assert (np.hypot(rows[curve] - row, columns[curve] - column) < 3).any()
    assert left < columns[curve].min() < columns[curve].max() < right and rows[curve].min() > top
    assert abs(rows[curve].max() - bottom) < 3, "the y axis begins at 0"
    rows, columns = of_color(image, charts.COLORS[1])
    dot = columns < right
    column, row = at((0, 1)) * [1, -1] + [0, image.height]
    assert abs(rows[dot].mean() - row) <= 1 and abs(columns[dot].mean() - column) <= 1 and np.ptp(rows[dot]) >= 3
    assert (columns > axes_box(figure, 1)[1]).any(), "the legend is at the right"


def test_named_positions_are_not_joined_and_a_level_is_beside_the_axes():
    panel = Panel([Curve("a", [0, 1, 2], [1, 1, float("nan")], level=0.5)], "flip", "")
    figure = charts.panel_chart("", [panel], x_names=["none", "left", "both"])
    image = charts.to_image(figure)
    rows, columns = of_color(image, charts.COLORS[0])
    left, right, *_ = axes_box(figure)
    dots, level = columns < right, (columns > right) & (columns < right + 0.05 * (right - left))
    first, second = (figure.axes[0].transData.transform((x, 1))[0] for x in (0, 1))
    assert dots.any() and not ((columns[dots] > first + 8) & (columns[dots] < second - 8)).any()
    row = image.height - figure.axes[0].transData.transform((0, 0.5))[1]
    assert level.any() and abs(rows[level].mean() - row) <= 1
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["none", "left", "both"]


def test_factors_are_on_a_logarithmic_axis_with_plain_numbers():
    figure = charts.panel_chart("", [Panel([Curve("a", [0.5, 1, 2], [1, 0, 1])], "times as large", "")], x_scale="log")
    charts.to_image(figure)
    low, middle, high = (figure.axes[0].transData.transform((x, 0))[0] for x in (0.5, 1, 2))
    assert middle - low == pytest.approx(high - middle)
    assert {"1.0", "2.0"} <= {label.get_text() for label in figure.axes[0].get_xticklabels()}


def test_an_svg_is_an_element_of_a_page_without_anything_from_elsewhere():
    curves = [Curve("<$a>", range(1000), np.linspace(0, 1, 1000).tolist()), Curve("_b", [0, 999], [1e308, None])]
    svg = charts.to_svg(charts.line_chart(Panel(curves, "step", "loss & more")), 'the "loss"')
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg" and root.get("aria-label") == 'the "loss"' and "http" not in svg and "metadata" not in svg
    assert root.get("viewBox") == "0 0 331.2 180"
    words = [element.text for element in root.iter("text")]
    assert {"step", "loss & more", "<$a>", "_b"} <= set(words)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids and len(set(ids)) == len(ids)
    assert all(f"#{i}" in svg for i in ids), "no element is named for nothing"
    again = charts.to_svg(charts.line_chart(Panel(curves, "step", "loss & more")), 'the "loss"')
    other = charts.to_svg(charts.line_chart(Panel(curves, "step", "loss & more")), "another")
    assert again == svg and not any(i in other for i in ids)
    assert len(svg) < 12_000


def test_groups_of_points_have_their_colors_in_all_panels():
    source, target = (
        PointGroup("source", torch.tensor([[0.0, 0.0]] * 3)),
        PointGroup("target", torch.tensor([[1.0, 1.0]])),
    )
    figure = charts.scatter_chart([("before", [source, target]), ("after", [source])], "first", "second")
    image = charts.to_image(figure)
    assert image.size == (720, 360) and charts.to_image(figure).tobytes() == image.tobytes()
    pixels = np.asarray(image).astype(int)
    for axes, group, channel in ((0, (0, 0), 2), (0, (1, 1), 0), (1, (0, 0), 2)):
        x, y = figure.axes[axes].transData.transform(group)
        color = pixels[image.height - round(y), round(x)]
        assert color[channel] > color[2 - channel] + 80, "source blue, target orange"
    assert [axes.get_title("left") for axes in figure.axes] == ["before", "after"]


def test_settings_and_warnings_of_the_user_stay_and_have_no_effect():
    figure = charts.line_chart(Panel([Curve("字", [0, 1], [0, 1])], "step", "字 \ud800"))
    plain = charts.to_svg(figure, "a")
    others = {"font.size": 31, "xtick.major.size": 20, "axes.linewidth": 7}
    with matplotlib.rc_context(others), warnings.catch_warnings():
        warnings.simplefilter("error")  # the font lacks the character
        before = dict(matplotlib.rcParams)
        curves = [Curve("字", [0, 1], [0, 1])]
        assert charts.to_svg(charts.line_chart(Panel(curves, "step", "字 \ud800")), "a") == plain
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_loaded():
    code = "import sys; from mlcli.reporting import charts; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"

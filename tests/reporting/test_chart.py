import numpy as np
import pytest

from mlcli.reporting.chart import BOTTOM, COLORS, LEFT, LINE_HEIGHT, RIGHT, TOP, Curve, Panel, chart, scale


def of_color(image, color):
    """(rows, columns) of the pixels that are all of a color."""
    return np.nonzero((np.asarray(image) == color).all(2))


def test_a_curve_stands_where_its_values_are():
    panels = [Panel("one", [Curve("a", [0, 1, 0.5]), Curve("b", [1, None, None], [True] * 3)]), Panel("two", [])]
    image = chart("title", panels, [0, 1, 2], ["0", "1", "2"], "pixels", width=200, height=100)
    assert image.height == LINE_HEIGHT + TOP + 100 + BOTTOM and image.width > 2 * (LEFT + 200 + RIGHT)
    top, left = LINE_HEIGHT + TOP, LEFT
    rows, columns = of_color(image, COLORS[0])
    curve = columns < LEFT + 200 + RIGHT  # the legend is at the right
    assert abs(rows[curve].min() - top) <= 2 and abs(rows[curve].max() - (top + 100)) <= 2
    assert abs(columns[curve].min() - left) <= 2 and abs(columns[curve].max() - (left + 200)) <= 2
    peak = columns[curve][rows[curve] == rows[curve].min()].mean()
    assert abs(peak - (left + 100)) <= 2
    end = rows[curve][columns[curve] == columns[curve].max()].mean()
    assert abs(end - (top + 50)) <= 2
    rows, columns = of_color(image, COLORS[1])
    dot = columns < LEFT + 200
    assert abs(rows[dot].mean() - top) <= 1 and abs(columns[dot].mean() - left) <= 1 and np.ptp(rows[dot]) >= 4


def test_points_that_are_not_joined_and_a_level():
    panels = [Panel("", [Curve("a", [1, 1, float("nan")], level=0.5)])]
    image = chart("", panels, [0, 1, 2], ["none", "left", "both"], "", joined=False, width=200, height=100)
    rows, columns = of_color(image, COLORS[0])
    dots, level = columns < LEFT + 190, (columns > LEFT + 200) & (columns < LEFT + 200 + RIGHT)
    assert not ((columns[dots] > LEFT + 8) & (columns[dots] < LEFT + 92)).any()
    assert abs(rows[level].mean() - (LINE_HEIGHT + TOP + 50)) <= 1


@pytest.mark.parametrize(
    "greatest, wanted", [(1, (0.2, 1)), (2.13, (0.5, 2.5)), (0.4, (0.1, 0.4)), (37, (10, 40)), (0, (1, 1))]
)
def test_axes_have_round_numbers(greatest, wanted):
    assert scale(greatest) == pytest.approx(wanted)

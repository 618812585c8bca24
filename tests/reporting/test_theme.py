"""Colors: every color of a chart follows the page."""

import re

from mlcli.reporting import charts, theme
from mlcli.reporting.charts import Curve, Panel


def test_a_chart_takes_all_its_colors_from_the_page():
    curves = [Curve(f"c{n}", [0, 1], [n, n + 1], filled=True) for n in range(len(theme.SERIES))]
    svg = charts.to_svg(charts.line_chart(Panel(curves, "step", "loss", "title")), "a")
    assert not re.findall(r"#[0-9a-f]{6}", svg), "a color that dark pages cannot change"
    declared = theme.variables(dark=False)
    for name in set(re.findall(r"var\((--[\w-]+)\)", svg)):
        assert f"{name}:" in declared
    assert {"var(--text)", "var(--axis)", "var(--line)", "var(--page)", "var(--series-6)"} <= set(
        re.findall(r"var\([^)]*\)", svg)
    )


def test_texts_and_curves_can_be_told_from_the_page_in_both_modes():
    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a, b):
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for mode in (0, 1):
        page = theme.COLORS["page"][mode]
        for name in ("text", "faint", "link"):
            assert contrast(theme.COLORS[name][mode], page) >= 4.5, name
        assert contrast(theme.COLORS["axis"][mode], page) >= 3
    assert all(contrast(dark, theme.COLORS["page"][1]) >= 4.5 for _, dark in theme.SERIES)
    assert len({dark for _, dark in theme.SERIES}) == len(theme.SERIES)

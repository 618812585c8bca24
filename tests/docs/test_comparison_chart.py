"""The README's chart shows what was measured."""

import re

import pytest

from tests.benchmarks.comparison_chart import ACCURACIES, RESULTS, SPEEDS, draw
from tests.docs.regenerate import README, ROOT

FIGURES = [(each.row, f"{value:.3g}") for each in SPEEDS for value in (each.auto, each.fp32) if value]
FIGURES += [(each.row, f"{each.ours:.4g}") for each in ACCURACIES if "Omniglot" not in each.name]
FIGURES += [(each.row, f"{each.published:.1f}") for each in ACCURACIES if "Omniglot" not in each.name]
FIGURES += [("Omniglot, minimal setting", error) for error in ("13.4", "23")]  # accuracies are what errors leave of 100


@pytest.mark.parametrize("row, figure", FIGURES)
def test_a_figure_stands_in_its_row_of_the_results(row, figure):
    (line,) = [line for line in RESULTS.read_text("utf-8").splitlines() if row in line and line.startswith("|")]
    assert re.search(rf"(?<![\d.]){re.escape(figure)}(0|\.0)?(?![\d.]*\d)", line), line


def test_it_is_drawn_and_in_the_readme(tmp_path):
    draw().savefig(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 10_000
    file = "samples/gallery/comparison.png"
    assert f"]({file})" in README.read_text("utf-8") and (ROOT / file).exists()

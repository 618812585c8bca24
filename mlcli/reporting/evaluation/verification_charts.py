"""The ROC curve and the histograms of distances of a verification of pairs, as charts of a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlcli.counting import counted
from mlcli.reporting.sections import Chart


def roc(measured: Mapping[str, Any]) -> Chart:
    """The true accept rate over the false accept rate, with the threshold in force as a dot."""
    from mlcli.reporting import charts

    x, y = measured["roc"]["false_accept"], measured["roc"]["true_accept"]
    at = [measured["false_accept_rate"]], [measured["true_accept_rate"]]
    curves = [
        charts.Curve("this network", [0.0, *x], [0.0, *y]),
        charts.Curve("by chance", [0, 1], [0, 1]),
        charts.Curve(f"threshold {measured['threshold']:.4g}", *at, dots=[True]),
    ]
    # A little more than from 0 to 1, so that a curve along the edge is seen
    ends = (-0.02, 1.02)
    panel = charts.Panel(curves, "false accept rate", "true accept rate", x_range=ends, y_range=ends)
    captions = [f"Area under the curve {measured['auc']:.4f}; equal error rate {measured['equal_error_rate']:.2%}."]
    return Chart(charts.to_svg(charts.line_chart(panel, height=3.2), "ROC curve"), "ROC curve", captions)


def distances(measured: Mapping[str, Any]) -> Chart:
    """Histograms of the distances of both kinds of pairs, each of area 1 in fractions, and the threshold."""
    from mlcli.reporting import charts

    edges, threshold = measured["distances"]["edges"], measured["threshold"]
    outlines = []
    for kind in ("same", "different"):
        counts = measured["distances"][kind]
        total = max(1, sum(counts))
        outlines.append((kind, [n / total for n in counts]))
    largest = max(value for _, values in outlines for value in values)
    curves = [charts.Curve(name, *_steps(edges, values), filled=True) for name, values in outlines]
    curves.append(charts.Curve(f"threshold {threshold:.4g}", [threshold, threshold], [0, largest]))
    ends = (0.0, max(edges[-1], threshold)), (0.0, 1.05 * largest)
    panel = charts.Panel(curves, "distance", "fraction of the pairs", x_range=ends[0], y_range=ends[1])
    same, different = (counted(measured["pairs"][kind], "pair") for kind in ("same", "different"))
    captions = [f"{same} of the same identity and {different} of different identities."]
    svg = charts.to_svg(charts.line_chart(panel, height=3.2), "histograms of the distances of pairs")
    return Chart(svg, "Distances of pairs", captions)


def _steps(edges: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The outline of a histogram as (x, y)."""
    x = [edge for edge in edges for _ in (0, 1)]
    return x, [0.0, *(value for value in values for _ in (0, 1)), 0.0]

"""Charts of the metrics of a training over its steps, and the table of their last values."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from mlcli.reporting.metric_names import Quantity, quantity, shown
from mlcli.reporting.sections import Chart, Table

SMOOTHED = 60  # points, from which on a curve is smoothed
WINDOWS = 25  # the window of the smoothing is so small a part of the points
LONGEST_LABEL = 26  # characters
NOT_METRICS = ("step", "seconds")

Points = Sequence[tuple[int, float]]


def charts_of(metrics: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart of each quantity over the steps; those of training and validation, and of two directions, share one.

    metrics: the lines of metrics.jsonl. Metrics with fewer than two values are left out. A curve of many points is
    drawn pale, behind its moving average.
    """
    points = {name: values for name, values in _points(metrics).items() if len(values) > 1}
    quantities = defaultdict(list)
    for name in points:
        quantities[quantity(name).name].append(name)
    return [_chart({name: points[name] for name in members}) for members in quantities.values()]


def last_values(metrics: Sequence[Mapping[str, Any]]) -> Table | None:
    """The last value of each metric: a row for each quantity, a column for each of what it is measured of."""
    last = {name: (line[name], line["step"]) for line in metrics for name in line if name not in NOT_METRICS}
    if not last:
        return None
    rows: dict[str, dict[str, str]] = defaultdict(dict)
    for name, (value, _) in last.items():
        of = quantity(name)
        rows[of.words][of.of] = shown(name, value)
    columns = list(dict.fromkeys(of for row in rows.values() for of in row))
    steps = {step for _, step in last.values()}
    when = f"Values of step {steps.pop()}." if len(steps) == 1 else f"The last value of each, up to step {max(steps)}."
    return Table(("", *columns), [(name, *(row.get(of, "") for of in columns)) for name, row in rows.items()], "", when)


def _points(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each metric, without values that were not finite."""
    points = defaultdict(list)
    for line in metrics:
        for name, value in line.items():
            if name not in NOT_METRICS and value is not None:
                points[name].append((line["step"], value))
    return points


def _chart(members: Mapping[str, Points]) -> Chart:
    """The chart of the metrics of one quantity."""
    from mlcli.reporting import charts  # loads matplotlib, which takes half a second

    drawn, captions = [], []
    of: Quantity | None = None
    for name, points in members.items():
        of = quantity(name)
        steps, values = [step for step, _ in points], [value for _, value in points]
        window = len(points) // WINDOWS if len(points) > SMOOTHED else 1
        caption = _caption(name, points)
        if window > 1:
            drawn.append(charts.Curve(of.of, steps, values, faint=True))
            values = moving_average(values, window)
            caption += f". Smoothed: the mean of {window} points; the points themselves are pale"
        drawn.append(charts.Curve(of.of, steps, values))
        captions.append(caption)
    assert of is not None
    panel = charts.Panel(drawn, "step", _y_label(of))
    return Chart(charts.to_svg(charts.line_chart(panel), ", ".join(members)), of.words, captions)


def _y_label(of: Quantity) -> str:
    """The label of the y axis, which is as long as the axis at most."""
    label = of.words + (" (fraction)" if of.is_fraction else "")
    return label if len(label) <= LONGEST_LABEL else "fraction" if of.is_fraction else "value"


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and its neighbors, `window` of them in all or fewer at the ends."""
    before, after = window // 2, window - window // 2
    parts = (values[max(0, at - before) : at + after] for at in range(len(values)))
    return [sum(value / len(part) for value in part) for part in parts]


def _caption(name: str, points: Points) -> str:
    """The extremes of a curve in words."""
    values = [value for _, value in points]
    extremes = f"{shown(name, min(values))} to {shown(name, max(values))}, last {shown(name, values[-1])}"
    return f"{name}: {extremes}; steps {points[0][0]} to {points[-1][0]}"

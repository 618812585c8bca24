"""Charts over the states of a pendulum: maps of values over angle and velocity, phase portraits, learning curves."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mlcli.reporting import charts

ANGLE = "angle (rad)"
TURN = 3.141592653589793


@dataclass(frozen=True)
class StateMap:
    """Values (A, V) over angles from -π to π and velocities from -speed to speed.

    signed: whether 0 is the middle of the colors.
    """

    title: str
    values: Tensor
    speed: float
    velocity_label: str
    value_label: str
    signed: bool = False


@dataclass(frozen=True)
class Portrait:
    """Trajectories in the plane of angle and velocity, (T, N) each; angles are in [-π, π)."""

    title: str
    angles: Tensor
    velocities: Tensor
    speed: float
    velocity_label: str


def map_chart(shown: StateMap, *, width: float = 4.2, height: float = 3.2) -> Figure:
    """A map with its scale of colors. width, height: in inches."""
    with charts.style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        values = shown.values.double().numpy()
        largest = abs(values).max() or 1.0
        low, high = (-largest, largest) if shown.signed else (values.min(), values.max())
        extent = (-TURN, TURN, -shown.speed, shown.speed)
        colors = "RdBu_r" if shown.signed else "viridis"
        image = axes.imshow(values.T, origin="lower", aspect="auto", extent=extent, cmap=colors, vmin=low, vmax=high)
        figure.colorbar(image, ax=axes, label=charts.text(shown.value_label))
        _label(axes, shown.title, shown.velocity_label)
        axes.grid(False)
    return figure


def portrait_chart(shown: Portrait, *, width: float = 3.6, height: float = 3.2) -> Figure:
    """A phase portrait; a dot marks the start of each trajectory. width, height: in inches."""
    with charts.style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        for number, (angles, velocities) in enumerate(zip(shown.angles.T, shown.velocities.T, strict=True)):
            color = charts.COLORS[number % len(charts.COLORS)]
            x, y = _broken(angles.tolist(), velocities.tolist())
            axes.plot(x, y, color=color, linewidth=1)
            axes.plot(x[:1], y[:1], color=color, marker="o", markersize=4)
        axes.set(xlim=(-TURN, TURN), ylim=(-1.05 * shown.speed, 1.05 * shown.speed))
        _label(axes, shown.title, shown.velocity_label)
    return figure


def learning_curve(x: Sequence[float], y: Sequence[float | None], optimum: float, x_label: str) -> Figure:
    """Mean returns over the experience, with the optimum as a line."""
    curves = [
        charts.Curve("learned", x, y),
        charts.Curve("optimum", [x[0], x[-1]], [optimum, optimum]),
    ]
    return charts.line_chart(charts.Panel(curves, x_label, "return of an episode"))


def _label(axes: Axes, title: str, velocity_label: str) -> None:
    axes.set(title=charts.text(title), xlabel=ANGLE, ylabel=charts.text(velocity_label))
    axes.set_xticks([-TURN, 0, TURN], ["-π", "0 (upright)", "π"])


def _broken(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """A trajectory with gaps where the angle jumps from π to -π or back."""
    broken_x, broken_y = [x[0]], [y[0]]
    for before, now, value in zip(x, x[1:], y[1:], strict=False):
        if abs(now - before) > TURN:
            broken_x.append(float("nan"))
            broken_y.append(float("nan"))
        broken_x.append(now)
        broken_y.append(value)
    return broken_x, broken_y

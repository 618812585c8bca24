"""report.html of a run: options, curves, samples and figures in one offline page."""

import base64
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mlcli.io.files import write_text
from mlcli.training.run_folder import Run

SHOWN_SAMPLES = 12
FRACTIONS = ("accuracy", "auc", "eer", "dice", "flips")  # last words of metrics between 0 and 1
DIRECTIONS = ("AtoB", "BtoA", "A", "B")  # words in the names of metrics that are measured of two networks


class EmbeddedImage(NamedTuple):
    """An image in the page. source: its data URL."""

    name: str
    source: str


class Chart(NamedTuple):
    """A chart in the page, with a caption for each of its curves."""

    svg: str
    captions: Sequence[str]


def write(run: Run, tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = ()) -> None:
    """Write the report of a run, finished or not, from its files; a report that is up to date is left alone.

    tables: (heading, header, rows) of each table of final results, at the top of the page.
    """
    from mlcli.reporting import pages

    config, metrics, results = run.load_config(), run.metrics(), run.results()
    grouped = {name: value for name, value in results.items() if isinstance(value, dict)}
    last = {name: line[name] for line in metrics for name in line}
    reports = (file.relative_to(run.folder).as_posix() for file in run.folder.glob("seed-*/*/report.html"))
    stages = sorted(reports)
    page = pages.render(
        "report.html",
        title=f"{run.folder.name}: mlcli {config['command']}",
        result_tables=tables,
        stages=stages,
        figures=last | {name: value for name, value in results.items() if name not in grouped},
        grouped_figures=grouped,
        result_images=[embedded(file) for file in (run.misclassified_file,) if os.path.exists(file)],
        charts=charts_of(metrics),
        has_no_result=not (results or stages),
        samples=[embedded(file) for file in shown_samples(run)],
        options=config["options"],
        data=config.get("data", {}),
        versions=config["versions"],
    )
    with suppress(OSError):
        if run.report_file.read_bytes() == page.encode("utf-8"):
            return
    write_text(run.report_file, page)


def embedded(file: Path) -> EmbeddedImage:
    """A PNG file with its name."""
    return EmbeddedImage(file.stem, f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}")


def shown_samples(run: Run) -> list[Path]:
    """At most `SHOWN_SAMPLES` images: all images of some steps, which are evenly spread from the first to the last."""
    by_step = defaultdict(list)
    for file in sorted(run.samples_folder.glob("*.png")):
        by_step[file.stem.rsplit("-", 1)[-1]].append(file)
    steps = sorted(by_step, reverse=True)
    room = max(1, SHOWN_SAMPLES // max(map(len, by_step.values()), default=1))
    every = (len(steps) - 1) / max(1, room - 1)
    chosen = steps if len(steps) <= room else [steps[round(number * every)] for number in range(room)]
    return [file for step in reversed(chosen) for file in by_step[step]]


def charts_of(metrics: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """A chart of each quantity over the steps; those of training and validation, and of two directions, share one.

    metrics: the lines of metrics.jsonl. Metrics with fewer than two values are left out.
    """
    points = defaultdict(list)
    for line in metrics:
        for name, value in line.items():
            if name not in ("step", "seconds") and value is not None:
                points[name].append((line["step"], value))
    quantities = defaultdict(list)
    for name, values in points.items():
        if len(values) > 1:
            quantities[_quantity(name)[0]].append(name)
    if not quantities:
        return []
    from mlcli.reporting import charts  # loads matplotlib, which takes half a second

    drawn = []
    for quantity, members in quantities.items():
        curves = [
            charts.Curve(_quantity(name)[1], [step for step, _ in points[name]], [value for _, value in points[name]])
            for name in members
        ]
        unit = " (fraction)" if quantity.endswith(FRACTIONS) else ""
        panel = charts.Panel(curves, "step", quantity.replace("_", " ") + unit)
        captions = [_caption(name, points[name]) for name in members]
        drawn.append(Chart(charts.to_svg(charts.line_chart(panel), ", ".join(members)), captions))
    return drawn


def _quantity(metric: str) -> tuple[str, str]:
    """What a metric measures, and of what: val_accuracy -> (accuracy, validation), loss_d_AtoB -> (loss_d, AtoB)."""
    held_out, name = metric.startswith("val_"), metric.removeprefix("val_")
    words = name.split("_")
    kept = [word for word in words if word not in DIRECTIONS]
    directions = [word for word in words if word in DIRECTIONS]
    if not kept:
        return name, "validation" if held_out else "training"
    of = [*directions, *(["validation"] if held_out else [] if directions else ["training"])]
    return "_".join(kept), ", ".join(of)


def _caption(name: str, points: Sequence[tuple[int, float]]) -> str:
    """The extremes of a curve in words."""
    values = [value for _, value in points]
    extremes = f"{min(values):.4g} to {max(values):.4g}, last {values[-1]:.4g}"
    return f"{name}: {extremes}; steps {points[0][0]} to {points[-1][0]}"

"""report.html of a run: results, curves, samples and options in one offline page."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlcli.io.files import write_text
from mlcli.reporting import curves, data_table, sections
from mlcli.reporting.sections import EmbeddedImage, Section
from mlcli.training.run_folder import Run

SHOWN_SAMPLES = 12
SMALLEST_SHEET = 400  # pixels; narrower images are enlarged
LEGEND = "Each point of a training curve is the mean over the steps since the point before it."


def write(run: Run, results: Sequence[Section] = (), command_line: str = "", options: Sequence[Section] = ()) -> None:
    """Write the report of a run, finished or not, from its files; a report that is up to date is left alone.

    results: what stands at the top, above the curves.  command_line: that the run was begun with.  options: the
    sections on how it was made.
    """
    from mlcli.reporting import pages

    config, metrics = run.load_config(), run.metrics()
    reports = [part.report_file for part in run.parts() if os.path.isfile(part.report_file)]
    inside = sorted(file.relative_to(run.folder).as_posix() for file in reports)
    page = pages.render(
        "report.html",
        title=f"{run.folder.name}: mlcli {config['command']}",
        command_line=command_line,
        sections=[
            *results,
            *_last_values(metrics),
            *_curves(metrics, has_more=bool(results or inside)),
            *_samples(run),
        ],
        inside=inside,
        made_by=[*options, *_data(config.get("data", {})), _versions(config["versions"])],
    )
    with suppress(OSError):
        if run.report_file.read_bytes() == page.encode("utf-8"):
            return
    write_text(run.report_file, page)


def _last_values(metrics: Sequence[Mapping[str, Any]]) -> list[Section]:
    table = curves.last_values(metrics)
    return [Section("Last metrics", [table])] if table else []


def _curves(metrics: Sequence[Mapping[str, Any]], *, has_more: bool) -> list[Section]:
    """The section of the curves; where there are none, why, unless the page has other results."""
    if charts := curves.charts_of(metrics):
        return [Section("Curves", charts, LEGEND)]
    if has_more:
        return []
    why = "Metrics were logged once; a curve needs two points." if metrics else "No step has been logged so far."
    return [Section("Curves", (), why)]


def _samples(run: Run) -> list[Section]:
    images = [_sample(file) for file in shown_samples(run)]
    return [Section("Samples", images)] if images else []


def _sample(file: Path) -> EmbeddedImage:
    name, _, step = file.stem.rpartition("-")
    if not step.isdecimal():
        name, step = file.stem, ""
    words = name.replace("-", " ")
    return sections.from_file(file, words[:1].upper() + words[1:] + (f", step {int(step)}" if step else ""))


def shown_samples(run: Run) -> list[Path]:
    """At most `SHOWN_SAMPLES` images: all images of some steps, which are evenly spread from the first to the last."""
    by_step = defaultdict(list)
    for file in sorted({*run.samples_folder.glob("*.png")} - {run.domains_image}):
        by_step[file.stem.rsplit("-", 1)[-1]].append(file)
    steps = sorted(by_step, reverse=True)
    room = max(1, SHOWN_SAMPLES // max(map(len, by_step.values()), default=1))
    every = (len(steps) - 1) / max(1, room - 1)
    chosen = steps if len(steps) <= room else [steps[round(number * every)] for number in range(room)]
    return [file for step in reversed(chosen) for file in by_step[step]]


def _data(data: Mapping[str, Mapping[str, Any]]) -> list[Section]:
    return [Section("Data", [data_table.table(data)])] if data else []


def _versions(versions: Mapping[str, Any]) -> Section:
    return Section("Versions", [sections.of_values(versions, ("software", "version"))])

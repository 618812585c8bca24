"""report.html of a run: options, curves, samples and figures in one offline page."""

import base64
import html
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlcli.io.files import write_text
from mlcli.training.run_folder import Run

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.15rem .8rem .15rem 0;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}figure{display:inline-block;margin:.5rem 1rem .5rem 0}
figcaption{font-size:13px;color:#555}img{max-width:100%;image-rendering:pixelated}h2{margin-top:2rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}figcaption{color:#aaa}}
"""
SHOWN_SAMPLES = 12


def write(run: Run, tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = ()) -> None:
    """Write the report of a run, finished or not, from its files; a report that is up to date is left alone.

    tables: (heading, header, rows) of each table of final results, at the top of the page.
    """
    config, metrics = run.load_config(), run.metrics()
    names = [name for name in dict.fromkeys(k for line in metrics for k in line) if name not in ("step", "seconds")]
    curves = "".join(
        curve(name, [(line["step"], line[name]) for line in metrics if line.get(name) is not None]) for name in names
    )
    last = {name: line[name] for line in metrics for name in line}
    samples = "".join(map(figure, shown_samples(run)))
    results = run.results()
    single = {name: value for name, value in results.items() if not isinstance(value, dict)}
    more = "".join(f"<h3>{text(name)}</h3>{rows(value)}" for name, value in results.items() if name not in single)
    images = figure(run.misclassified_file) if os.path.exists(run.misclassified_file) else ""
    stages = "".join(
        f'<li><a href="{text(path)}">{text(path)}</a>'
        for path in sorted(file.relative_to(run.folder).as_posix() for file in run.folder.glob("seed-*/*/report.html"))
    )
    title = f"{run.folder.name}: mlcli {config['command']}"
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{text(title)}</title><style>{STYLE}</style>"
        f"<h1>{text(title)}</h1>"
        + "".join(f"<h2>{text(heading)}</h2>{table(header, lines)}" for heading, header, lines in tables)
        + (f"<h2>Stages</h2><ul>{stages}</ul>" if stages else f"<h2>Result</h2>{rows(last | single)}{more}{images}")
        + (f"<h2>Curves</h2>{curves or '<p>None yet.</p>'}" if curves or not (results or stages) else "")
        + (f"<h2>Samples</h2>{samples}" if samples else "")
        + f"<h2>Options</h2>{rows(config['options'])}<h2>Data</h2>"
        + "".join(f"<h3>{text(name)}</h3>{rows(data)}" for name, data in config.get("data", {}).items())
        + f"<h2>Versions</h2>{rows(config['versions'])}</html>\n"
    )
    with suppress(OSError):
        if run.report_file.read_bytes() == page.encode("utf-8", "surrogateescape"):
            return
    write_text(run.report_file, page)


def figure(file: Path) -> str:
    """A PNG file embedded in the page, with its name as the caption."""
    data = base64.b64encode(file.read_bytes()).decode()
    name = text(file.stem)
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"><figcaption>{name}</figcaption></figure>'


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


def table(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """A table with a heading for each column."""
    head = "<tr>" + "".join(f"<th>{text(name)}" for name in header)
    return f"<table>{head}" + "".join("<tr>" + "".join(f"<td>{text(c)}" for c in line) for line in lines) + "</table>"


def rows(values: Mapping[str, object]) -> str:
    """A table of names and values."""
    return "<table>" + "".join(f"<tr><th>{text(k)}<td class=n>{text(shown(v))}" for k, v in values.items()) + "</table>"


def shown(value: object) -> str:
    """A value as the text of a cell."""
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def text(value: object) -> str:
    """A value as text of an HTML page, escaped."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())


def curve(name: str, points: Sequence[tuple[int, float]], width: int = 420, height: int = 160) -> str:
    """An inline SVG of (step, value) points; the caption names the extremes."""
    if len(points) < 2:
        return ""
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    span, first, length = (high - low) or 1.0, steps[0], (steps[-1] - steps[0]) or 1
    path = " ".join(f"{(s - first) / length * width:.1f},{height - (v - low) / span * height:.1f}" for s, v in points)
    return (
        f'<figure><svg width="{width}" height="{height}" viewBox="-2 -2 {width + 4} {height + 4}" role=img '
        f'aria-label="{text(name)}"><polyline points="{path}" fill=none stroke="#3b7dd8" stroke-width=1.5 /></svg>'
        f"<figcaption>{text(name)}: {low:.4g} to {high:.4g}, last {values[-1]:.4g}; steps {first} to {steps[-1]}"
        "</figcaption></figure>"
    )

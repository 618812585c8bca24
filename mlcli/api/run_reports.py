"""report.html of the run of any command: what the command measured in the end, above curves, samples and options."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from mlcli.api import pendulum_reports
from mlcli.api.adaptation_tables import report_sections
from mlcli.api.option_tables import option_section
from mlcli.errors import RunError
from mlcli.io import schema
from mlcli.reporting import report, sections
from mlcli.reporting.evaluation import evaluation_tables, verification_charts
from mlcli.reporting.sections import Chart, Section, Table
from mlcli.training.run_folder import Run, read_json

METHOD = "adapt (a method of the run in ..)"  # the command of the run folder of one of several methods
MISCLASSIFIED = schema.record(
    {
        "results": schema.items(
            schema.record(
                {
                    "image": schema.text(),
                    "true": schema.text(),
                    "predicted": schema.text(),
                    "probability": schema.number(),
                },
                {"box": schema.items(schema.integer(0, 1 << 31), 4, 4)},
            )
        )
    }
)

POINTS = schema.items(schema.items(schema.number(), 2, 2), 1)
DOMAINS = schema.items(schema.record({"title": schema.text(200), "source": POINTS, "target": POINTS}), 1)


def write(run: Run) -> None:
    """Write the report of a run, finished or not; a report that is up to date is left alone."""
    config = run.load_config()
    results = run.results()
    command = "adapt" if config["command"] == METHOD else config["command"]
    found = RESULTS[command](run, results) if results and command in RESULTS else []
    report.write(run, found, config.get("command_line", ""), [option_section(command, config["options"])])


def _classification(run: Run, results: Mapping[str, Any]) -> list[Section]:
    """The evaluations of a classifier, and its misclassified images."""
    classes = results.get("classes", ())
    found = []
    for name, entry in results.items():
        if isinstance(entry, dict):
            heading = {"folds": "Cross-validation"}.get(name, name[:1].upper() + name[1:])
            found.append(Section(heading, evaluation_tables.tables(entry, classes or [*entry.get("per_class", ())])))
    if "l2" in results:
        values = {"regularization (l2)": results["l2"]}
        found.append(Section("Last layer", [sections.of_values(values, ("", "value"))], results.get("note", "")))
    return found + _misclassified(run)


def _misclassified(run: Run) -> list[Section]:
    """The images that were predicted wrongly, with the names of their files."""
    if not os.path.exists(run.misclassified_file):
        return []
    heading = "Misclassified images"
    try:
        entries = read_json(run.misclassified_record, "", MISCLASSIFIED)["results"]
    except RunError:
        entries = []
    drawn = [each for each in entries if "box" in each]
    if not drawn:  # of an earlier version, or the file is lost
        return [Section(heading, [sections.from_file(run.misclassified_file, "True class, and predicted class")])]
    captions = [
        (os.path.basename(each["image"]), f"{each['true']}, predicted {each['predicted']} ({each['probability']:.0%})")
        for each in drawn
    ]
    words = f"{len(drawn)} of {len(entries)}" if len(drawn) < len(entries) else f"All {len(drawn)}"
    text = f"{words}, the most confident errors first: name, true class, predicted class and its probability."
    return [Section(heading, sections.tiles(run.misclassified_file, [each["box"] for each in drawn], captions), text)]


def _probes(run: Run, results: Mapping[str, Any]) -> list[Section]:
    """The linear probes of the layers of a network."""
    trained, untrained = results.get("probes", {}), results.get("probes of an untrained network", {})
    rows = [
        (name, f"{value:.2%}", f"{untrained[name]:.2%}" if name in untrained else "") for name, value in trained.items()
    ]
    if "best layer" in results:
        best = (results["best layer"], results.get("best layer of an untrained network", ""))
        rows.append(("best layer", *best))
    header = ("layer", "this network", "the same network, untrained")
    caption = f"Accuracy of a linear classifier on the features of each layer, learned from {results.get('labels')} "
    caption += f"labeled images and tested on {results.get('tested')} others."
    return [Section("Linear probes", [Table(header, rows, "", caption)])]


def _verification(run: Run, results: Mapping[str, Any]) -> list[Section]:
    """The rates on the validation pairs, the ROC curve and the distances."""
    measured = results["verification"]
    values = {
        "equal error rate": f"{measured['equal_error_rate']:.2%}",
        "area under the ROC curve": f"{measured['auc']:.4f}",
        "threshold of the distance": f"{measured['threshold']:.4g}",
        "false accept rate at the threshold": f"{measured['false_accept_rate']:.2%}",
        "true accept rate at the threshold": f"{measured['true_accept_rate']:.2%}",
    }
    table = sections.of_values(values, ("", "on validation pairs"))
    charts = [verification_charts.roc(measured), verification_charts.distances(measured)]
    return [Section("Verification", [table, *charts])]


def _adaptation(run: Run, results: Mapping[str, Any]) -> list[Section]:
    """The table of an adaptation, and both domains in the plane of their features."""
    return report_sections(results) + _domains(run)


def _domains(run: Run) -> list[Section]:
    """Both domains as points of a plane; an earlier version wrote the image alone."""
    from mlcli.methods.adaptation import projection
    from mlcli.reporting import charts

    try:
        planes = projection.from_json(schema.read_json(run.domains_file, DOMAINS))
    except (OSError, schema.Invalid):
        exists = os.path.isfile(run.domains_image)
        return [Section("Domains", [sections.from_file(run.domains_image, "")])] if exists else []
    words = projection.METHOD.format(len(planes[0].source), len(planes[0].target))
    drawn = [Chart(charts.to_svg(projection.chart([each]), f"features {each.title}"), each.title) for each in planes]
    return [Section("Domains", drawn, words)]


RESULTS: dict[str, Callable[[Run, Mapping[str, Any]], list[Section]]] = {
    "train": _classification,
    "finetune": _classification,
    "pretext": _probes,
    "siamese-train": _verification,
    "adapt": _adaptation,
    "pendulum-train": pendulum_reports.of_training,
}

"""The result of `mlcli adapt` as tables of text, for the terminal and for report.html."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from mlcli.reporting import sections
from mlcli.reporting.sections import Section

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # header, rows

TITLES = {
    "source_only": "source only",
    "adapted": "adapted",
    "last": "  its last step",
    "best_possible": "  best step, chosen with the test labels",
    "target_supervised": "trained on target labels",
    "held_out": "source only, held-out source images",
}


def figures(result: Mapping[str, Any]) -> Table:
    """The table of a result: a row for each model that was measured."""
    lines: list[tuple[str, ...]] = []
    for name, entry in result.items():
        if isinstance(entry, Mapping) and "interval" in entry:
            low, high = entry["interval"]
            spread = "" if entry["sd"] is None else f"{entry['sd']:.2%}"
            title = TITLES.get(name, name.replace("_", " "))
            lines.append((title, f"{entry['mean']:.2%}", spread, f"{low:.2%} to {high:.2%}", str(len(entry["runs"]))))
    return ("", result["metric"], "standard deviation", "95 % interval", "runs"), lines


def compared(result: Mapping[str, Any]) -> Table:
    """The table of several methods: a row for each, whose figures stand beside those of its source model."""
    beside = ("source_only", "target_supervised")
    lines: list[tuple[str, ...]] = []
    for name, each in result["methods"].items():
        (_, *titles), rows = figures(each)
        of_rows = {row[0]: row[1:] for row in rows}
        if TITLES["adapted"] not in of_rows:  # without a test set
            titles, shown = [], []
        else:
            shown = [other for other in beside if TITLES[other] in of_rows]
        cells = [*of_rows.get(TITLES["adapted"], ()), *(of_rows[TITLES[other]][0] for other in shown)]
        lines.append((name, *cells, _criterion(each["kept"]), TITLES[each["kept"][0]["model"]]))
    header = ("method", *titles, *(TITLES[other] for other in shown), "criterion, before and after", "handed out")
    return header, lines


def _criterion(kept: Sequence[Mapping[str, Any]]) -> str:
    """The mean criterion of source only and of the adapted model over the seeds, of which `kept` has an entry each."""
    if any("criterion" not in each for each in kept):
        return ""
    before, after = (mean(each[name] for each in kept) for name in ("source_only", "adapted"))
    return f"{kept[0]['criterion']} {before:.4f}, {after:.4f}"


def best(result: Mapping[str, Any]) -> str:
    """Which of several methods seems best, and why."""
    method, criterion = result["best"]["method"], result["best"]["criterion"]
    return f"that of {method}: " + (
        f"its {criterion} is the highest" if criterion else "no criterion compares them all"
    )


def numbers(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The tables for a program: the names as in the JSON, the values as numbers from 0 to 1, each in its own column."""
    methods = result.get("methods", {"": result})
    lines: list[tuple[Any, ...]] = []
    for method, of_method in methods.items():
        for name, entry in of_method.items():
            if isinstance(entry, Mapping) and "interval" in entry:
                lines.append((method, name, entry["mean"], entry["sd"], *entry["interval"], len(entry["runs"])))
    header = ("method", "model", result["metric"].lower().replace(" ", "_"), "sd", "low", "high", "runs")
    return (header, lines) if "methods" in result else (header[1:], [line[1:] for line in lines])


def facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Details of a result, as (name, value): tests of significance, label flips, and how checkpoints were chosen."""
    found = []
    if (fraction := result.get("gap_closed")) is not None:
        found.append(("gap to the target's labels closed", f"{fraction:.0%}"))
    for name, words in (("mcnemar", "McNemar's test"), ("sign_test", "sign test")):
        for seed, test in zip(result["seeds"], result.get(name, ()), strict=False):
            only = f"{test['first_alone']} better before, {test['second_alone']} better after"
            found.append((f"{words}, seed {seed}", f"{only}, p = {test['p']:.2g}"))
    if flips := result.get("label_flip_rate"):
        # without a model of the target, only changes of the source model's predictions can be counted
        known = flips["classifier"] == "target_supervised"
        words = "labels flipped" if known else "predictions of the source model changed"
        found.append((f"{words} by the translation {flips['direction']}", f"{flips['mean']:.2%}"))
    if shift := result.get("label_shift"):
        distance = f"total variation distance {shift['total_variation']:.2f} from the source"
        found.append(("class frequencies of the target, estimated", distance))
    for seed, chosen in zip(result["seeds"], result.get("selection", ()), strict=False):
        score = next(each["score"] for each in chosen["candidates"] if each["step"] == chosen["chosen"])
        by = "the last" if chosen["criterion"] == "last" else f"by {chosen['criterion']}, {score:.4f}"
        found.append((f"chosen without labels, seed {seed}", f"step {chosen['chosen']}, {by}"))
    for seed, kept in zip(result["seeds"], result.get("kept", ()), strict=False):
        found.append((f"model handed out, seed {seed}", _kept(kept)))
    for seed, value in zip(result["seeds"], result.get("source_model", ()), strict=False):
        same = "unchanged" if value["before"] == value["after"] else "CHANGED"
        found.append((f"source model, seed {seed}", f"{same}, sha256 {value['after'][:16]}"))
    return found


def _kept(kept: Mapping[str, Any]) -> str:
    """Which model a seed hands out, and why: an entry of `kept`."""
    if kept["doubt"]:
        return f"{TITLES[kept['model']]}; the adapted one seems worse: {kept['doubt']}"
    if "criterion" not in kept:
        return TITLES[kept["model"]]
    return (
        f"{TITLES[kept['model']]}, {kept['criterion']} {kept['adapted']:.4f} against {kept['source_only']:.4f} before"
    )


def per_class(result: Mapping[str, Any]) -> Table:
    """The accuracy, or Dice coefficient, of each class by the models that were measured."""
    checkpoints = ("last", "best_possible")
    kept = {name: values for name, values in result.get("per_class", {}).items() if name not in checkpoints}
    names = list(dict.fromkeys(name for values in kept.values() for name in values))
    header = ("class", *(TITLES.get(name, name.replace("_", " ")) for name in kept))
    return header, [(name, *(f"{values[name]:.2%}" for values in kept.values())) for name in names]


def frequencies(shift: Mapping[str, Any]) -> Table:
    """The class frequencies of both domains, `label_shift` of a result."""
    lines: list[tuple[str, ...]] = []
    for name, value in shift["source"].items():
        lines.append((name, f"{value:.2%}", f"{shift['estimated'][name]:.2%}"))
    return ("class", "source", "target, estimated"), lines


def report_sections(result: Mapping[str, Any]) -> list[Section]:
    """The tables of report.html."""
    if "methods" in result:
        words = f"Each method has a report of its own. The model of this run is {best(result)}."
        return [Section("Methods", [sections.Table(*compared(result))], words), _warnings(result)]
    header, lines = figures(result)
    found = [Section("Result", [sections.Table(header, lines)])] if lines else []
    found.append(_warnings(result))
    if details := facts(result):
        found.append(Section("Details", [sections.Table(("", "value"), details)]))
    if shift := result.get("label_shift"):
        caption = (
            "Frequency of each class in the source, and in the target as the predictions of the source model suggest:"
        )
        caption += f" a total variation distance of {shift['total_variation']:.2f}."
        found.append(Section("Class frequencies", [sections.Table(*frequencies(shift), caption=caption)]))
    if "per_class" in result:
        caption = f"{result['metric'].capitalize()} on the test images of each class, the mean over the runs."
        found.append(Section("Classes", [sections.Table(*per_class(result), caption=caption)]))
    return found


def _warnings(result: Mapping[str, Any]) -> Section:
    warnings = [(words,) for words in result["guards"]]
    table = [sections.Table(("warning",), warnings, rows_named=False)] if warnings else []
    return Section("Warnings", table, "" if warnings else "No check has found anything wrong.")

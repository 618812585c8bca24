"""Several methods of `mlcli adapt` in one run: each is a run inside it, and one table has them all."""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, replace
from statistics import mean
from typing import Any

from mlcli.api import run_reports, runs
from mlcli.api.adaptation_run import MethodRun
from mlcli.counting import joined
from mlcli.io.files import write_bytes
from mlcli.methods.adaptation.registry import Adaptation
from mlcli.training.run_folder import Run


def divided(whole: MethodRun, configs: Mapping[str, Adaptation]) -> dict[str, MethodRun]:
    """The run of each method, in a folder of its name inside that of `whole`.

    configs: of each method. A model of the source that two would train alike is trained by the first and used by both.
    """
    found: dict[str, MethodRun] = {}
    for name, config in configs.items():
        options = {**whole.options, "method": name}
        run = replace(whole, folder=whole.folder.part(name), options=options, config=config)
        alike = [each.folder for each in found.values() if each.trains_the_same_source_model(run)]
        found[name] = replace(run, stages_of=alike[0]) if alike else run
    return found


def results(folder: Run, methods: Mapping[str, MethodRun], disagreements: list[str]) -> dict[str, Any]:
    """Run the methods one after the other, or resume them; hand out the model of the one that seems best.

    methods: the run of each, by name. disagreements: warnings about the data. What is in the table is written last.
    """
    found = {}
    for name, run in methods.items():
        if run.processes.main:
            runs.start(
                run.folder, run_reports.METHOD, {**run.options, **asdict(run.config)}, run.data.summary(), resume=True
            )
        run.processes.wait()
        found[name] = run.results(disagreements)
        if run.processes.main:
            run_reports.write(run.folder)
    best = seems_best(found)
    first = found[best["method"]]
    result = {"methods": found, "task": first["task"], "metric": first["metric"], "seeds": first["seeds"]}
    result |= {"best": best, "guards": disagreements + _warnings(found, len(disagreements))}
    chosen = methods[best["method"]]
    if chosen.processes.main:
        _hand_out(chosen.folder, folder)
        folder.save_results(result)
    return result


def seems_best(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The method whose models, as they are handed out, have the highest criterion: {"method", "criterion", "scores"}.

    found: the results of each method. The criterion sees no label of the target; scores are means over the seeds. Where
    the methods do not have one and the same criterion, the first of them is taken, and the criterion is None.
    """
    criteria = {entry.get("criterion") for result in found.values() for entry in result["kept"]}
    if len(criteria) > 1 or None in criteria:
        return {"method": next(iter(found)), "criterion": None, "scores": {}}
    scores = {name: mean(entry[entry["model"]] for entry in result["kept"]) for name, result in found.items()}
    return {"method": max(scores, key=scores.__getitem__), "criterion": criteria.pop(), "scores": scores}


def _warnings(found: Mapping[str, Mapping[str, Any]], common: int) -> list[str]:
    """The warnings of the methods, without those about the data, the first `common` of each; equal ones once."""
    methods = defaultdict(list)
    for name, result in found.items():
        for words in result["guards"][common:]:
            methods[words].append(name)
    return [f"{joined(names)}: {words}" for words, names in methods.items()]


def _hand_out(chosen: Run, folder: Run) -> None:
    """Copy the model of a method, and its translator where there is one, to the run that it belongs to."""
    for name in ("model_file", "translator_file"):
        made, copy = getattr(chosen, name), getattr(folder, name)
        if os.path.isfile(made):
            write_bytes(copy, made.read_bytes())
        else:
            copy.unlink(missing_ok=True)

"""How well the criteria of `mlcli adapt --select` rank checkpoints and runs, without labels, by their accuracy.

    python -m tests.benchmarks.selection RUN... --test TEST [--images 2000] [--criteria im snd entropy reverse]

RUN are finished runs of `mlcli adapt` on classes. SOURCE and TARGET must still be where their config.json says; TEST
holds labeled images of the target. Each checkpoint of each seed is opened from candidates/ of its stage, and its
predictions for the first images of TARGET give the criteria, those for TEST the accuracy. Prints

- for each seed Spearman's rank correlation of each criterion with the accuracy over the checkpoints, the accuracy of
  the checkpoint that the criterion chooses, and that of the best one;
- for all seeds and runs together, their means, and the rank correlation over runs: of the criterion of the checkpoint
  that it chooses with the accuracy of this one, with source only of each run among them. Runs with another SOURCE or
  TARGET are compared apart, since the values of criteria depend on the images.

A criterion that is the same for all checkpoints has no rank correlation; it is left out of the means.
"""

import argparse
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import nn

from mlcli.api import adaptation_data
from mlcli.api.adapt import AdaptConfig, _source_model
from mlcli.api.adaptation_options import hyperparameters
from mlcli.api.adaptation_run import MethodRun
from mlcli.data.domains import Domain
from mlcli.errors import WeightsError
from mlcli.methods.adaptation.context import AdaptationContext, frozen, probabilities
from mlcli.methods.adaptation.registry import CRITERIA
from mlcli.methods.adaptation.seuda import behind
from mlcli.models import artifacts, pretrained, registry, translators
from mlcli.models.fitting import fill
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime
from mlcli.runtime.processes import Processes
from mlcli.training.run_folder import Run

Ranked = list[dict[str, float]]  # of each checkpoint: its criteria and its accuracy


def opened(run: Run, test: Path) -> tuple[MethodRun, Domain]:
    """A finished run as `adapt` sees it, and the test set as its stages see it."""
    config = run.load_config()
    options = config["options"] | {"test": str(test), "select": "reverse", "target_labels": False}
    source_model = _source_model(options, [options["method"]])
    method = hyperparameters(options, frozenset(), source_model)
    runtime = Runtime.choose("cpu", "fp32")
    model = pretrained.known(method.model, method.weights) if method.pretrained and not source_model else None
    trains = AdaptConfig(source=Path("."), target=Path("."), method=options["method"], output=run.folder)
    data = adaptation_data.read(options, [method], model, source_model, trains)
    assert data.test is not None
    return MethodRun(run, options, method, data, source_model, runtime, Processes(torch.device("cpu")), 60), data.test


def network_of(stage: Run, source_only: Model) -> tuple[Model, nn.Module]:
    """(the model of a stage, the network in it whose weights the checkpoints are)."""
    try:
        model = registry.load(str(stage.folder))
        return model, model.network
    except WeightsError:  # a generator before the source model, as SeUDA's
        to_source = translators.load(stage.folder, "BtoA")
        return behind(to_source, source_only), to_source.network


def ranked(context: AdaptationContext[Any], test: Domain, names: list[str], images: int) -> dict[str, Ranked]:
    """{stage: its checkpoints} of a seed; first of each, source only."""
    source_only = context.source_model or frozen(registry.load(str(context.stage("source").folder)))
    folder, found = context.stage("source").folder.parent, {}

    def rated(model: Model) -> dict[str, float]:
        p = probabilities(model, context.target.images[:images], context.runtime)
        right = probabilities(model, test.images, context.runtime).argmax(1) == test.labels
        return {name: context.criteria[name](p) for name in names} | {"accuracy": right.double().mean().item()}

    for checkpoints in sorted(folder.glob("*/candidates")):
        model, network = network_of(context.stage(checkpoints.parent.name), source_only)
        found[checkpoints.parent.name] = [rated(source_only)]
        for file in sorted(checkpoints.glob("step-*.safetensors")):
            fill(network, artifacts.read(file).tensors, file)
            found[checkpoints.parent.name].append(rated(frozen(model)))
    return found


def correlation(entries: Ranked, name: str) -> float:
    """Spearman's rank correlation of a criterion with the accuracy; NaN where either is constant."""
    pairs = [(entry[name], entry["accuracy"]) for entry in entries]
    if len(pairs) < 3 or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
        return math.nan
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def choice(entries: Ranked, name: str) -> dict[str, float]:
    """The checkpoint with the best criterion; of equal ones the latest, as `adapt` has it."""
    return max(reversed(entries), key=lambda entry: entry[name])


def of_seed(entries: Ranked, names: list[str]) -> dict[str, Any]:
    """The accuracies of a seed, and for each criterion that of its choice and the rank correlation."""
    found: dict[str, Any] = {"source only": entries[0]["accuracy"], "best": max(e["accuracy"] for e in entries[1:])}
    for name in names:
        rank = correlation(entries[1:], name)
        found[name] = {
            "chosen": choice(entries[1:], name)["accuracy"],
            "correlation": None if math.isnan(rank) else round(rank, 3),
        }
    return found


def mean(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return round(statistics.mean(known), 3) if known else None


def summary(within: list[Ranked], groups: Mapping[str, list[Ranked]], names: list[str]) -> dict[str, Any]:
    """The figures of each criterion over all seeds."""
    found = {}
    for name in names:
        chosen = [choice(entries, name) for entries in within]
        lost = [
            max(e["accuracy"] for e in entries) - best["accuracy"] for entries, best in zip(within, chosen, strict=True)
        ]
        over = {
            group: correlation([each for e in entries for each in (e[0], choice(e[1:], name))], name)
            for group, entries in groups.items()
        }
        found[name] = {
            "checkpoints of a run": mean([correlation(entries[1:], name) for entries in within]),
            "and source only": mean([correlation(entries, name) for entries in within]),
            "accuracy lost by the choice": mean(lost),
            "over runs": {group: None if math.isnan(value) else round(value, 3) for group, value in over.items()},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2000, help="of the target, for the criteria")
    known = [name for name in CRITERIA if name != "last"]
    parser.add_argument("--criteria", nargs="+", default=known, choices=known)
    parser.add_argument("-o", "--output", type=Path, help="a JSON file for the values of every checkpoint")
    arguments = parser.parse_args()
    names, within, groups, values = arguments.criteria, [], defaultdict(list), {}
    for folder in arguments.runs:
        run, test = opened(Run(folder), arguments.test)
        data = run.folder.load_config()["data"]
        group = "-".join(data[name].get("hash", "")[:6] for name in ("source", "target"))
        for number in range(run.options["seeds"]):
            context = run.context(number)
            for stage, entries in ranked(context, test, names, arguments.images).items():
                title = f"{folder.name}/seed-{context.seed}/{stage}"
                values[title] = entries
                within.append(entries)
                groups[group].append(entries)
                print(f"{title} ({group}):", json.dumps(of_seed(entries, names)), flush=True)
    print(json.dumps(summary(within, groups, names), indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(values))


if __name__ == "__main__":
    main()

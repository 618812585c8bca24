"""How faithful methods of explanation are over many images: means with intervals, beside maps that know no network."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mlcli.methods.evaluation.significance import bootstrap

REFERENCES = ("random", "center")


@dataclass(frozen=True)
class Row:
    """A method, or one of REFERENCES, whose advantages and sanity are None.

    deletion, insertion: mean areas.  advantages: over each reference, of insertion less deletion, with its 95 %
    interval over the images.  sanity: the mean similarity of maps to those of random networks, by how much is random.
    failed: how many maps fail each check.
    """

    name: str
    count: int
    deletion: float
    insertion: float
    advantages: Mapping[str, tuple[float, float, float]] | None = None
    sanity: Mapping[str, float] | None = None
    failed: Mapping[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"count": self.count, "deletion": self.deletion, "insertion": self.insertion}
        if self.advantages is not None:
            told["over"] = {
                name: {"mean": mean, "interval": [low, high]} for name, (mean, low, high) in self.advantages.items()
            }
            told["sanity"] = dict(self.sanity or {})
            told["failed"] = dict(self.failed or {})
        return told


@dataclass(frozen=True)
class FaithfulnessTable:
    """rows: of the references, then of the methods."""

    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        return {"methods": {row.name: row.as_json() for row in self.rows}}


def tabulated(explanations: Iterable[Mapping[str, Any]]) -> FaithfulnessTable:
    """explanations: what NAME.json says of each, with `checks`. Some numbers of each are kept."""
    areas: dict[str, list[tuple[float, float]]] = defaultdict(list)
    over: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    sanity: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    failed: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys((*REFERENCES, "sanity"), 0))
    methods: dict[str, None] = {}
    for each in explanations:
        checks, name = each["checks"], each["method"]
        methods[name] = None
        areas[name].append((checks["deletion"], checks["insertion"]))
        score = checks["insertion"] - checks["deletion"]
        first = name == next(iter(methods))  # the references of an image are the same for all methods
        for reference in REFERENCES:
            own = checks[reference]
            over[name][reference].append(score - (own["insertion"] - own["deletion"]))
            if first:
                areas[reference].append((own["deletion"], own["insertion"]))
        for level, value in checks["sanity"].items():
            sanity[name][level].append(value)
        for check in checks["failed"]:
            failed[name][check] += 1

    def row(name: str, **more: Any) -> Row:
        deleted, inserted = torch.tensor(areas[name], dtype=torch.float64).mean(0).tolist()
        return Row(name, len(areas[name]), deleted, inserted, **more)

    rows = [row(reference) for reference in REFERENCES if methods]
    for name in methods:
        advantages = {reference: _with_interval(values) for reference, values in over[name].items()}
        means = {level: sum(values) / len(values) for level, values in sanity[name].items()}
        rows.append(row(name, advantages=advantages, sanity=means, failed=failed[name]))
    return FaithfulnessTable(tuple(rows))


def _with_interval(values: list[float]) -> tuple[float, float, float]:
    """(mean, low, high)."""
    numbers = torch.tensor(values, dtype=torch.float64)
    return (numbers.mean().item(), *bootstrap(numbers))

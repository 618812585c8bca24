"""The data sets of a run, as its config.json describes them, as a table with a column for each."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlcli.reporting.sections import Table

SHOWN_DIGITS = 16  # of a hash


def table(data: Mapping[str, Mapping[str, Any]]) -> Table:
    """data: for each data set the facts about it by their names in config.json."""
    columns = {name: dict(_facts(values)) for name, values in data.items()}
    if "model" in columns:
        columns["model"].pop("count", None)  # of files; beside numbers of images it misleads
    rows = dict.fromkeys(fact for facts in columns.values() for fact in facts)
    return Table(("", *columns), [(fact, *(facts.get(fact, "") for facts in columns.values())) for fact in rows])


def _facts(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each fact as it is read by people; one that is empty is left out."""
    for name, value in values.items():
        if name == "specs":  # of the images of both sides of a pair
            for side, spec in zip("AB", value, strict=False):
                yield f"channels of {side}", spec["channels"]
                if spec["labels"]:
                    yield f"label classes of {side}", spec["labels"]
        elif name in SHOWN:
            title, shown = SHOWN[name]
            if value not in (None, {}):
                yield title, shown(value)
        else:
            yield name.replace("_", " "), value


def _range(ends: list[float]) -> str:
    return f"{ends[0]:g} to {ends[1]:g}"


SHOWN: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "hash": ("hash (its beginning)", lambda digits: digits[:SHOWN_DIGITS]),
    "size": ("size", lambda size: f"{size[0]} × {size[1]}" if isinstance(size, list) else size),
    "value_range": ("value range", _range),
    "value_range_A": ("value range of A", _range),
    "value_range_B": ("value range of B", _range),
    "addresses": ("addresses", lambda layers: ", ".join(f"{alias}: {address}" for alias, address in layers.items())),
}

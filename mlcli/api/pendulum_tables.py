"""The result of `mlcli pendulum-transfer` as tables of text, for the terminal and for report.html."""

from collections.abc import Mapping, Sequence
from typing import Any

FIRST = ("policy", "episodes", "mean return", "sd of seeds", "95 % interval")
LAST = ("gap closed", "return while learning")
COLUMNS = {"swing-up": (*FIRST, "upright", *LAST), "balance": (*FIRST, "fallen", *LAST)}
CAPTION = (
    "Episodes: of the large pendulum, used to learn. Gap closed: from the scaled policy to the optimum. Return while "
    "learning: the mean of the episodes that were used."
)
TITLES = {
    "small": "on the small pendulum",
    "naive": "as it is (naive)",
    "scaled": "scaled",
    "scaled, identified": "scaled, mass and length identified",
    "scaled, from images": "scaled, seen in images",
    "optimum": "optimum",
}


def title(name: str) -> str:
    """The name of a row as a reader calls it."""
    if name in TITLES:
        return TITLES[name]
    kind, count = name.split(", ")
    return f"{kind}, {count} episode{'' if count == '1' else 's'}"


def table_rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each policy."""
    rows: list[tuple[str, ...]] = []
    for row in record["table"]:
        figures, closed, learning = row["return"], row["gap_closed"], row["return_while_learning"]
        interval = "" if figures["interval"] is None else " to ".join(f"{end:.4g}" for end in figures["interval"])
        rows.append(
            (
                title(row["name"]),
                str(row["episodes"]),
                f"{figures['mean']:.4g}",
                "" if figures["sd"] is None else f"{figures['sd']:.3g}",
                interval,
                f"{row['upright' if record['task'] == 'swing-up' else 'fallen']:.1%}",
                "" if closed is None else f"{closed:.0%}",
                "" if learning is None else f"{learning:.4g}",
            )
        )
    return rows


def numbers(record: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """The same for a program."""
    header = ("policy", "episodes", "mean", "sd", "low", "high", "upright", "fallen", "gap_closed")
    rows: list[Sequence[Any]] = []
    for row in record["table"]:
        low, high = row["return"]["interval"] or (None, None)
        figures = row["return"]["mean"], row["return"]["sd"], low, high
        rows.append((row["name"], row["episodes"], *figures, row["upright"], row["fallen"], row["gap_closed"]))
    return (*header, "return_while_learning"), [
        (*values, row["return_while_learning"]) for values, row in zip(rows, record["table"], strict=True)
    ]


def similarity_text(record: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """A row for each dimensionless group: its values, and how far they are from each other."""
    return [
        (
            each["name"],
            f"{each['small']:.4g}",
            f"{each['large']:.4g}",
            "equal" if each["equal"] else "" if each["ratio"] is None else f"{each['ratio']:.4g}",
        )
        for each in record["groups"]
    ]


def scaling_text(record: Mapping[str, Any]) -> str:
    """In words: whether the pendulums are similar, and how the policy is scaled."""
    scaling = record["scaling"]
    if record["similar"]:
        words = "All groups are equal: the pendulums are similar, and the scaled policy is exact."
    else:
        words = "The pendulums are not similar, so no scaling is exact."
    words += f" Velocities are multiplied by {scaling['velocity_factor']:.4g} and torques by"
    words += f" {scaling['torque_factor']:.4g}, in units of {scaling['unit_of_torque']}"
    if expected := scaling["simulated_returns"]:
        words += ", the better of both units in simulated episodes ("
        words += ", ".join(f"{unit}: {value:.4g}" for unit, value in expected.items()) + ")"
    return words + "."

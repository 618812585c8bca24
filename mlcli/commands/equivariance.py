"""`mlcli equivariance`"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from mlcli.api.call import Call
from mlcli.api.equivariance import EquivarianceConfig, PartlyMeasured, equivariance
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, out, table
from mlcli.io.files import json_text

if TYPE_CHECKING:
    from mlcli.api.equivariance import Equivariance

IDENTITIES = {"shift": 0, "rotate": 0, "scale": 1, "flip": "none"}  # the amounts that change nothing


@command(EquivarianceConfig)
def run(
    call: Call[EquivarianceConfig], format: option.FormatOption = option.Format.table, quiet: option.Quiet = False
) -> None:
    """Measure how far each layer is from invariance and from equivariance.

    For a layer f and a transformation t: how far f(t(x)) is from f(x) (invariance) and, where f is a map, from t(f(x))
    (equivariance), relative to their norms and averaged over the images. Writes curves.png, one curve per layer;
    example.png, the first image and a unit of each map; and equivariance.json; interrupted, of the images so far.
    --model sobel is the edge detector that should be equivariant. Computes in fp32.
    """
    try:
        result = call.run(equivariance)
    except PartlyMeasured as interrupted:
        out(_text(interrupted.result, call.config.transform, format))
        raise
    out(_text(result, call.config.transform, format))
    if result.failures:
        raise typer.Exit(1)


def _text(result: "Equivariance", transform: str, format: str) -> str:
    entries = result.as_json()["layers"]
    if format == "json":
        return json_text(result.as_json())
    if format == "csv":
        rows = [(entry["layer"], *point.values()) for entry in entries for point in entry["amounts"]]
        return csv_text(("layer", *entries[0]["amounts"][0]), rows)
    header = ("layer", "stride", "invariance", "equivariance", "without interpolation", "unrelated images")
    return table(header, [_row(entry, transform) for entry in entries], right=(1, 2, 3, 4, 5))


def _row(entry: Mapping[str, Any], transform: str) -> Sequence[str]:
    """A layer in the table: its errors averaged over the amounts that change an image."""
    changed = [point for point in entry["amounts"] if point["amount"] != IDENTITIES[transform]]
    exact = [point["equivariance"] for point in changed if point["exact"] and point["equivariance"] is not None]
    return (
        entry["layer"],
        "all" if math.isinf(entry["stride"]) else f"{entry['stride']:g}",
        _mean([point["invariance"] for point in changed]),
        _mean([point["equivariance"] for point in changed]),
        f"{max(exact):.1e}" if exact else "",
        _mean([entry["unrelated"]]),
    )


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return f"{sum(known) / len(known):.3f}" if known else ""

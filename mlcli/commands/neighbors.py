"""`mlcli neighbors`"""

from typing import TYPE_CHECKING

import typer

from mlcli.api.call import Call
from mlcli.api.neighbors import NeighborsConfig, neighbors
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._many import taking_many
from mlcli.commands._report import csv_text, out, table
from mlcli.io.files import json_text

if TYPE_CHECKING:
    from mlcli.api.neighbors import Neighbors

Parser = taking_many("--among")


@command(NeighborsConfig)
def run(
    call: Call[NeighborsConfig], format: option.FormatOption = option.Format.table, quiet: option.Quiet = False
) -> None:
    """Find the nearest images in feature space.

    Draws each query with its neighbors, nearest first, and prints their distances. A query that is itself among the
    images is not its own neighbor; a copy of it under another name is. The feature vectors of the images are kept in
    an index in the user's cache, or in the file of --index: a later call computes only those of new and changed files,
    or all for another model or layer. A map is averaged over its positions.
    """
    result = call.run(neighbors)
    out(json_text(result.as_json()) if format == "json" else _text(result, format))
    if result.failures:
        raise typer.Exit(1)


def _text(result: "Neighbors", format: str) -> str:
    rows = [
        (query.image, rank, image, distance)
        for query in result.queries
        for rank, (image, distance) in enumerate(query.neighbors, 1)
    ]
    if format == "csv":
        bad = [(query.image, "", "", "", query.error) for query in result.queries if query.error]
        return csv_text(("query", "rank", "image", "distance", "error"), [*((*row, "") for row in rows), *bad])
    shown = [(query if rank == 1 else "", image, f"{distance:.4f}") for query, rank, image, distance in rows]
    return table(("query", "neighbor", "distance"), shown, right=(2,)) if shown else ""

"""`mlcli neighbors`"""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mlcli.api import inputs
from mlcli.commands import _options as option
from mlcli.commands._many import taking_many
from mlcli.commands._report import Progress, csv_text, out, printable, say, table
from mlcli.io.files import json_text

Parser = taking_many("--among")


class Metric(StrEnum):
    cosine = "cosine"
    euclidean = "euclidean"


@option.reads_images
def run(
    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERY", help=option.IMAGES_HELP, show_default=False),
    ],
    among: Annotated[
        list[str],
        typer.Option(
            "--among",
            metavar="IMAGES...",
            help="Where to look: files, folders, or -; all up to the next option.",
            show_default=False,
        ),
    ],
    output: option.Image,
    k: Annotated[int, typer.Option("-k", min=1, help="How many neighbors to show.")] = 5,
    metric: Annotated[Metric, typer.Option("--metric", help="How far is far.")] = Metric.cosine,
    model: option.Model = option.DEFAULT_MODEL,
    weights: option.Weights = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", help="A layer by address or alias; default the last hidden one."),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="The file that keeps the vectors; default one in the folder of --among."),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Compute all vectors anew.")] = False,
    size: Annotated[int, typer.Option("--size", min=16, max=1024, help="Side of a tile in pixels.")] = 96,
    format: option.FormatOption = option.Format.table,
    batch_size: option.BatchSize = 32,
    device: option.Device = "auto",
    precision: option.ExactPrecision = option.Precision.fp32,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Find the nearest images in feature space.

    Draws each query with its neighbors, nearest first, and prints their distances. A query that is itself among the
    images is none of its own neighbors; a copy of it under another name is. The vectors of the images are kept in
    an index: a later call computes only those of new and changed files, or all for another model or layer. A map is
    averaged over its places.
    """
    from mlcli.api.outputs import refuse_existing, write_beside
    from mlcli.data.folders import positions
    from mlcli.errors import UsageError
    from mlcli.io import image_io
    from mlcli.methods.visualization.feature_index import Index, default_file, made_with
    from mlcli.methods.visualization.nearest_neighbors import feature_vectors, nearest
    from mlcli.models import features, registry
    from mlcli.reporting import canvas
    from mlcli.runtime.device import Runtime

    refuse_existing(output, overwrite)
    image_io.output_format(output)
    if "-" in queries and "-" in among:
        raise UsageError("-: the paths on stdin are either the queries or the images to look among, not both")
    (asked, unlisted), (images, unseen) = inputs.named(queries), inputs.named(among)
    image_io.require_room(output, *canvas.rows_size(len(asked), 1 + min(k, len(images)), size))
    runtime = Runtime.choose(device, precision)
    chosen = registry.load(model, weights).to(runtime)
    target = features.hidden(chosen) if layer is None else features.resolve(chosen, layer)
    compute = partial(feature_vectors, chosen, target, runtime=runtime, batch_size=batch_size, workers=workers)

    vectors, entries = _query_vectors(asked, compute, quiet)
    file, source = (index, None) if index else default_file(among, images, chosen, target, runtime, weights)
    kept = Index(file, made_with(chosen, target, runtime), source)
    kept.require_width(vectors.shape[1])
    failures = _update(kept, images, compute, refresh, quiet)
    good = [entry for entry in entries if "error" not in entry]
    own = positions([entry["query"] for entry in good], images)
    found, distances = nearest(
        vectors, partial(kept.blocks, kept.positions(images)), k, metric, exclude=own, device=runtime.device
    )
    for entry, row, far in zip(good, found.tolist(), distances.tolist(), strict=True):
        entry["neighbors"] = [
            {"image": str(images[number]), "distance": one} for number, one in zip(row, far, strict=True) if number >= 0
        ]
    image_io.write(canvas.rows_of_files(_rows(good, among, size), size), output)
    options = {"queries": queries, "among": among, "k": k, "metric": metric, "model": model, "weights": weights}
    options |= {"layer": layer, "size": size, "precision": runtime.precision}
    write_beside(output, "neighbors", options, chosen, address=target.address, index=kept.file, results=entries)
    out(_text(entries, format))
    if failures + unlisted + unseen or len(good) < len(entries):
        raise typer.Exit(1)


def _query_vectors(asked, compute, quiet):
    """((Q, D) of the queries that can be read, an entry for each query). Raises DataError where none can be read."""
    import torch

    from mlcli.errors import DataError, ImageError

    vectors, entries = [], []
    with Progress(len(asked), "queries", quiet=quiet) as bar:
        for done, (path, vector) in enumerate(compute(asked), 1):
            if isinstance(vector, ImageError):
                bar.complain(vector)
                entries.append({"query": str(path), "error": str(vector)})
            else:
                entries.append({"query": str(path)})
                vectors.append(vector)
            bar.to(done)
    if not vectors:
        raise DataError("none of the queries can be read")
    return torch.stack(vectors), entries


def _update(index, images, compute, refresh: bool, quiet: bool) -> int:
    """Bring the index in step; the number of images that have no vector. Raises DataError where none has one."""
    from mlcli.errors import DataError, ImageError

    failures = 0

    def watched(paths):
        nonlocal failures
        with Progress(len(paths), "index", quiet=quiet) as bar:
            for done, (path, vector) in enumerate(compute(paths), 1):
                if isinstance(vector, ImageError):
                    failures += 1
                    bar.complain(vector)
                bar.to(done)
                yield path, vector

    if index.outdated:
        say(f"{index.file}: made with another model, layer or precision; all vectors are computed anew", quiet)
    try:
        computed, gone = index.update(images, watched, recompute=refresh)
    except (KeyboardInterrupt, SystemExit):
        say(f"{index.file}: keeps {len(index)} vectors; the same command goes on from there", quiet)
        raise
    if failures == len(images):
        raise DataError("none of the images to look among can be read")
    say(f"{index.file}: {len(index)} vectors, {computed} of them computed now; {gone} files are gone", quiet)
    return failures


def _rows(entries: list[dict], among: list[str], size: int) -> list[list[tuple[Path, str]]]:
    """For each query a row of images and labels: names, those of neighbors inside --among, and distances."""
    from mlcli.reporting.canvas import shortened

    folders = [Path(given) for given in among]

    def label(path: Path, below: str) -> str:
        root = next((folder for folder in folders if folder != path and path.is_relative_to(folder)), path.parent)
        return shortened(printable(str(path.relative_to(root).with_suffix(""))), size) + f"\n{below}"

    return [
        [
            (Path(entry["query"]), label(Path(entry["query"]), "query")),
            *((Path(n["image"]), label(Path(n["image"]), f"{n['distance']:.3f}")) for n in entry["neighbors"]),
        ]
        for entry in entries
    ]


def _text(entries: list[dict], format: str) -> str:
    if format == "json":
        return json_text(entries)
    rows = [
        (entry["query"], rank, neighbor["image"], neighbor["distance"])
        for entry in entries
        for rank, neighbor in enumerate(entry.get("neighbors", ()), 1)
    ]
    if format == "csv":
        rows = [(*row, "") for row in rows]
        rows += [(entry["query"], "", "", "", entry["error"]) for entry in entries if "error" in entry]
        return csv_text(("query", "rank", "image", "distance", "error"), rows)
    rows = [(query if rank == 1 else "", image, f"{distance:.4f}") for query, rank, image, distance in rows]
    return table(("query", "neighbor", "distance"), rows, right=(2,)) if rows else ""

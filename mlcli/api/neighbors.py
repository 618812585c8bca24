"""`mlcli.neighbors`: the images nearest to others in feature space."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common, engines, inputs
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, say
from mlcli.api.image_result import ImageResult, image_output, require_writable
from mlcli.counting import counted
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.options import COMPUTING, DATA, METHOD, NETWORK, OUTPUT, argument, option, required, same

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.imaging.memory_images import MemoryImage
    from mlcli.methods.visualization.index.feature_index import Index, Vectors
    from mlcli.models.model import Model
    from mlcli.models.structure.graph import Layer
    from mlcli.runtime.device import Runtime

    Image = Path | MemoryImage

METRICS = ("cosine", "euclidean")


@dataclass(frozen=True, kw_only=True)
class NeighborsConfig(common.UsesModel, common.ReadsImages, common.ComputesExactly):
    queries: common.Images = argument(
        "Images to find neighbors of: files, folders (walked recursively), archives, or - for paths on stdin.",
        metavar="QUERY",
        cli_type=list[str],
    )
    among: common.Paths = required(
        "Images to search: files, folders, archives, or - for paths on stdin; all words up to the next option.",
        "--among",
        metavar="IMAGES...",
        cli_type=list[str],
        panel=DATA,
    )
    output: Path | None = image_output()
    model: str = same(common.UsesModel, "model", help=common.RUNNABLE_HELP)
    k: int = option(5, "Number of neighbors to show.", "-k", minimum=1, panel=METHOD)
    metric: str = option("cosine", "Metric of the distance between feature vectors.", choices=METRICS, panel=METHOD)
    layer: str | None = option(
        None,
        "Address or alias of the layer whose values are compared (see `mlcli layers`).",
        shown_default="the last hidden layer",
        completes="layer",
        panel=NETWORK,
    )
    index: Path | None = option(
        None,
        "File that keeps the feature vectors.",
        path="file",
        shown_default="one for each folder and model, in $XDG_CACHE_HOME/mlcli or ~/.cache/mlcli",
        panel=OUTPUT,
    )
    refresh: bool = option(False, "Compute all feature vectors again.", panel=COMPUTING)
    size: int = option(96, "Side of each tile in pixels.", minimum=16, maximum=1024, panel=OUTPUT)
    engine: str = common.engine()
    batch_size: int = common.batch_size(32)
    overwrite: bool = common.overwrite()


@dataclass(frozen=True)
class Query:
    """The neighbors of one image: (image, distance) of each, nearest first. error: why there are none."""

    image: str
    neighbors: tuple[tuple[Path, float], ...] = ()
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        if self.error:
            return {"query": self.image, "error": self.error}
        neighbors = [{"image": str(path), "distance": distance} for path, distance in self.neighbors]
        return {"query": self.image, "neighbors": neighbors}


@dataclass(frozen=True)
class Neighbors(ImageResult):
    """The neighbors of each query, in order, and the image that shows them.

    index: the file of the feature vectors.  failures: number of images and folders that could not be read.
    """

    queries: tuple[Query, ...]
    index: Path
    failures: int

    def as_json(self) -> list[dict[str, Any]]:  # type: ignore[override]  # the record has more than is printed
        """What `mlcli neighbors --format json` prints."""
        return [query.as_json() for query in self.queries]


@function(NeighborsConfig)
def neighbors(call: Call[NeighborsConfig]) -> Neighbors:
    """Find the images nearest to others in the feature space of a layer (Krizhevsky et al. 2012, section 6.1).

    Distances are Euclidean, or cosine distances from 0 to 2. A map is averaged over its positions. A query that is
    itself among the images is not its own neighbor; a copy of it under another name is. The feature vectors of `among`
    are kept in an index file, in the user's cache unless `index` names one: a later call computes only those of new and
    changed files.

        >>> import mlcli
        >>> result = mlcli.neighbors("cat.jpg", among="photos")  # doctest: +SKIP
        >>> result.queries[0].neighbors[0]  # doctest: +SKIP
        (PosixPath('photos/lynx.jpg'), 0.21)

    `result.image` has a row for each query. The queries may be in memory, the images searched are files. Queries that
    cannot be read have an `error` in place of their neighbors. Raises UsageError where the output exists and for
    unknown layers, DataError where none of the queries or of the images can be read, BusyError where another process
    updates the index.
    """
    from mlcli.api.outputs import determining, record
    from mlcli.imaging import image_io
    from mlcli.methods.visualization.index import feature_index
    from mlcli.methods.visualization.nearest_neighbors import feature_vectors, nearest
    from mlcli.reporting import canvas
    from mlcli.runtime.device import Runtime

    config = call.config
    require_writable(config.output, overwrite=config.overwrite)
    given, among = inputs.listed(config.queries), inputs.file_names(config.among)
    if "-" in among and any(isinstance(query, str) and query == "-" for query in given):
        raise UsageError("-: the paths on stdin are either the queries or the images to search, not both")
    (asked, unlisted), (searched, unseen) = inputs.named(given), inputs.named(among)
    images = [image for image in searched if isinstance(image, Path)]
    if config.output is not None:
        layout = canvas.rows_layout(len(asked), 1 + min(config.k, len(images)), config.size)
        image_io.require_room(config.output, *layout.size)
    runtime = Runtime.choose(config.device, config.precision)
    model = engines.opened(config.model, config.weights, runtime, config.engine, features=True)
    layer, network = _compared(config, model, runtime, len(images))
    batch_size = 1 if getattr(model, "one_at_a_time", False) else config.batch_size
    compute = partial(feature_vectors, model, network, runtime=runtime, batch_size=batch_size, workers=config.workers)

    vectors, errors = _query_vectors(asked, compute)
    made_with = feature_index.made_with(model, layer, runtime)
    index = feature_index.Index(config.index or _default_index(among, images, made_with), made_with)
    index.require_width(vectors.shape[1])
    failures = _update(index, images, compute, config.refresh) + unlisted + unseen + len(errors)
    readable = [query for query in asked if query not in errors]
    search = partial(nearest, vectors, k=config.k, metric=config.metric, device=runtime.device)
    found = _search(readable, images, index, search)
    queries = tuple(
        Query(str(query), error=errors[query]) if query in errors else Query(str(query), found[query])
        for query in asked
    )
    options = determining(config, queries=given, among=among, precision=runtime.precision)
    results = [query.as_json() for query in queries]
    return Neighbors.written(
        canvas.rows_of_files(_rows(found, among), config.size),
        record("neighbors", options, model, address=layer.address, index=index.file, results=results),
        config.output,
        queries=queries,
        index=index.file,
        failures=failures,
    )


def _compared(
    config: NeighborsConfig, model: "Model", runtime: "Runtime", count: int
) -> "tuple[Layer, Callable[[Tensor], Tensor]]":
    """(the layer that is compared, what computes its vectors). count: of the images to search."""
    import torch

    from mlcli.api import layer_names
    from mlcli.models.engines import choice
    from mlcli.models.exports.exported_model import ExportedModel
    from mlcli.models.structure import features

    if isinstance(model, ExportedModel):
        if config.layer is not None:
            raise UsageError(
                f"--layer {config.layer}: {model.name} gives its last hidden layer alone; leave --layer out"
            )
        return model.hidden, model.runs.features
    layer = features.hidden(model) if config.layer is None else features.resolve(model, config.layer)
    layer_names.addresses(model, [config.layer] if config.layer else [])
    network, crop = features.LayerVectors(model, layer), model.preprocessing.crop
    example = torch.zeros(2, model.preprocessing.channels, crop, crop)
    key = choice.key_of(model, layer.address)
    return layer, engines.prepared(network, example, runtime, config.engine, key, count)


def _default_index(among: Sequence[str], images: Sequence[Path], made_with: Mapping[str, Any]) -> Path:
    """The index in the user's cache; says where an earlier version left one that is no longer used."""
    from mlcli.api.index_file import default_index, former_indexes

    for former in former_indexes(among):
        say(
            f"{former}: an index that an earlier version left among the images; only --index uses it, you may delete it"
        )
    return default_index(among, images, made_with)


def _query_vectors(queries: "Sequence[Image]", compute: Callable[..., Any]) -> "tuple[Tensor, dict[Image, str]]":
    """((Q, D) of the queries that can be read, {query: error} of the others). Raises DataError where none can."""
    import torch

    vectors: list[Tensor] = []
    errors: dict[Image, str] = {}
    with Progress(len(queries), "queries") as bar:
        for done, (query, vector) in enumerate(compute(queries), 1):
            if isinstance(vector, ImageError):
                bar.complain(vector)
                errors[query] = str(vector)
            else:
                vectors.append(vector)
            bar.to(done)
    if not vectors:
        raise DataError("none of the queries can be read")
    return torch.stack(vectors), errors


def _update(index: "Index", images: Sequence[Path], compute: "Vectors", refresh: bool) -> int:
    """Update the index; the number of images that have no vector. Raises DataError where none has one."""
    failures = 0

    def watched(paths: Sequence[Path]) -> "Iterator[tuple[Path, Tensor | ImageError]]":
        nonlocal failures
        with Progress(len(paths), "index") as bar:
            for done, (path, vector) in enumerate(compute(paths), 1):
                if isinstance(vector, ImageError):
                    failures += 1
                    bar.complain(vector)
                bar.to(done)
                yield path, vector

    if index.outdated:
        say(f"{index.file}: made with another model, layer or precision; all vectors are computed again")
    try:
        computed, gone = index.update(images, watched, recompute=refresh)
    except (KeyboardInterrupt, SystemExit):
        say(f"{index.file}: keeps {counted(len(index), 'vector')}; the same command resumes from there")
        raise
    if failures == len(images):
        raise DataError("none of the images to search can be read")
    say(f"{index.file}: {counted(len(index), 'vector')}, {computed} of them computed now; {counted(gone, 'file')} gone")
    return failures


def _search(
    queries: "Sequence[Image]", images: Sequence[Path], index: "Index", search: Callable[..., Any]
) -> "dict[Image, tuple[tuple[Path, float], ...]]":
    """{query: (neighbor, distance) of the nearest images that are not the query itself, nearest first}.

    search: `nearest` for the vectors of the queries.
    """
    import torch

    from mlcli.data.folders import positions

    files = [number for number, query in enumerate(queries) if isinstance(query, Path)]
    own = torch.full((len(queries),), -1)
    own[files] = positions([str(queries[number]) for number in files], images)
    indices, distances = search(partial(index.blocks, index.positions(images)), exclude=own)
    return {
        query: tuple((images[number], far) for number, far in zip(row, fars, strict=True) if number >= 0)
        for query, row, fars in zip(queries, indices.tolist(), distances.tolist(), strict=True)
    }


def _rows(
    found: "Mapping[Image, Sequence[tuple[Path, float]]]", among: Sequence[str]
) -> "list[list[tuple[Image, str, str]]]":
    """A row for each query and its neighbors: images, their names relative to a folder given, and their distances."""
    from mlcli.printable import printable

    folders = [Path(given) for given in among]

    def name(image: "Image") -> str:
        if not isinstance(image, Path):
            return printable(str(image))
        root = next((f for f in folders if f != image and image.is_relative_to(f)), image.parent)
        return printable(str(image.relative_to(root).with_suffix("")))

    return [
        [(query, name(query), "query"), *((image, name(image), f"{distance:.3f}") for image, distance in neighbors)]
        for query, neighbors in found.items()
    ]

"""`mlcli.embed`: the feature vectors of images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.inputs import named
from mlcli.api.row_files import STREAMED
from mlcli.api.row_stream import RowStream, WritesRows
from mlcli.errors import DataError, ImageError
from mlcli.options import NETWORK, OUTPUT, option

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.imaging.memory_images import MemoryImage
    from mlcli.models.model import Model


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(common.UsesModel, common.ReadsImages, common.ComputesExactly, WritesRows):
    images: common.Images = common.images()
    layer: str | None = option(
        None,
        "Address or alias of the layer whose values are the vectors (see `mlcli layers`).",
        shown_default="the last hidden layer",
        completes="layer",
        panel=NETWORK,
    )
    format: str = option(
        None,
        "Format of the result, which is written while it is computed.",
        choices=STREAMED,
        shown_default="by the ending of FILE, else jsonl",
        panel=OUTPUT,
    )
    batch_size: int = common.batch_size(32)

    def __post_init__(self) -> None:
        if not self.format:
            ending = "" if self.output is None else Path(self.output).suffix.lower().removeprefix(".")
            object.__setattr__(self, "format", ending if ending in STREAMED else "jsonl")
        super().__post_init__()


@dataclass(frozen=True)
class Embedding:
    """The feature vector of an image, (D,) float32.  error: why there is none."""

    image: str
    vector: "Tensor | None" = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        if self.vector is None:
            return {"image": self.image, "error": self.error}
        # Nine digits tell every float32 from the others
        return {"image": self.image, "vector": [float(f"{value:.9g}") for value in self.vector.tolist()]}


@dataclass(frozen=True)
class Embeddings:
    """Feature vectors of images.

    layer: its address.  images, vectors: the names of the images that could be read, and (N, D) float32; none where
    they are in a file.  errors: {image: why it cannot be read}.
    failures: number of images and folders that could not be read.
    """

    model: "Model"
    layer: str
    images: tuple[str, ...]
    vectors: "Tensor"
    errors: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0


@function(EmbedConfig)
def embed(call: Call[EmbedConfig]) -> Embeddings:
    """Compute the feature vectors of images: the values of a layer, averaged over the positions of a map.

    These are the vectors that `mlcli.neighbors` compares. With `output` they are written while they are computed, in
    memory that does not grow with the number of images, and `resume` resumes what was interrupted; they are not in the
    result then.

        >>> import mlcli
        >>> mlcli.embed("samples/photos", model="cifarnet").vectors.shape
        torch.Size([9, 384])

    Raises DataError where there is no image, or none that can be read, UsageError for unknown layers and for an output
    that exists, WeightsError for a model that cannot be had, BusyError where another process writes the output.
    """
    import torch

    from mlcli.api import layer_names
    from mlcli.api.outputs import determining, record
    from mlcli.io.row_formats import Columns
    from mlcli.methods.visualization.nearest_neighbors import feature_vectors
    from mlcli.models import registry
    from mlcli.models.structure import features
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

    config = call.config
    runtime = Runtime.choose(config.device, config.precision)
    processes = Processes(runtime.device)
    runtime = replace(runtime, device=processes.device)
    stream = RowStream(call, processes)
    model = registry.load(config.model, config.weights).to(runtime)
    layer = features.hidden(model) if config.layer is None else features.resolve(model, config.layer)
    layer_names.addresses(model, [config.layer] if config.layer else [])
    paths, failures = processes.by_first(lambda: named(config.images))

    network = features.LayerVectors(model, layer)
    compute = partial(
        feature_vectors, model, network, runtime=runtime, batch_size=config.batch_size, workers=config.workers
    )

    def rows(some: "Sequence[Path | MemoryImage]") -> Iterator[Embedding]:
        for path, vector in compute(some):
            if isinstance(vector, ImageError):
                yield Embedding(str(path), error=str(vector))
            else:
                yield Embedding(str(path), vector)

    width = features.vectors(torch.zeros(1, *layer.shape), layer).shape[1]
    columns = Columns({"image": "text", "vector": width, "error": "text"}, _line)
    options = determining(config, precision=runtime.precision)
    stream.fill(
        paths, rows, columns, record("embed", options, model, address=layer.address), batch_size=config.batch_size
    )
    processes.close()
    good = [row for row in stream.kept if not row.error]
    if not good and stream.kept:
        raise DataError("none of the images can be read")
    return Embeddings(
        model,
        layer.address,
        tuple(row.image for row in good),
        torch.stack([row.vector for row in good]) if good else torch.empty(0, 0),
        {row.image: row.error for row in stream.kept if row.error},
        failures + stream.errors,
    )


def _line(embedding: Mapping[str, Any]) -> Iterable[tuple[Any, ...]]:
    """The line of a table for an embedding as JSON has it."""
    return [(embedding["image"], embedding.get("vector"), embedding.get("error"))]

"""Seconds of `mlcli neighbors` once all images are indexed: to open and compare the index, and to search.

    python tests/benchmarks/neighbors.py [--count 100000] [--queries 1 10 100] [--rounds 5]

The vectors are drawn at random, as long as those of the embedded network; the images are files of one byte, since an
index that is in step with its folder opens none of them. Given are seconds by the clock and those of the processor,
which other work on the machine does not lengthen. With --agreement CLASSES, a folder of class folders that the
embedded network indexes first: how many of the 5 nearest of every 20th image are of its class.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from mlcli.data.folders import ClassFolder
from mlcli.data.sources import find_images
from mlcli.methods.visualization.index.feature_index import Index, made_with
from mlcli.methods.visualization.nearest_neighbors import feature_vectors, nearest
from mlcli.models import registry
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime

METRICS = ("cosine", "euclidean")


def speed(count: int, queries: list[int], rounds: int) -> None:
    (width,) = features.hidden(registry.load("cifarnet")).shape
    random = torch.Generator().manual_seed(0)

    def compute(paths):
        yield from zip(paths, torch.rand(len(paths), width, generator=random), strict=True)

    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            (Path(folder) / f"{number:06d}.png").write_bytes(b"x")
        paths = find_images([folder]).paths
        file = Path(folder) / ".index"
        began = time.perf_counter()
        Index(file, {}).update(paths, compute)
        size = file.stat().st_size / 1e6
        print(f"{count} vectors of {width}: written in {time.perf_counter() - began:.2f} s, {size:.0f} MB")
        seconds: dict[str, list[tuple[float, float]]] = {}

        def measured(what: str, work: Callable, *given):
            clock, processor = time.perf_counter(), time.process_time()
            result = work(*given)
            seconds.setdefault(what, []).append((time.perf_counter() - clock, time.process_time() - processor))
            return result

        for _ in range(rounds):
            measured("list the folder", find_images, [folder])
            index = measured("open the index", Index, file, {})
            assert measured("compare it with the folder", index.update, paths, compute) == (0, 0)
            blocks = partial(index.blocks, measured("match images and vectors", index.positions, paths))
            for metric in METRICS:
                for number in queries:
                    asked = torch.rand(number, width, generator=random)
                    measured(f"search, {metric}, {number} queries", nearest, asked, blocks, 5, metric)
        for what, measurements in seconds.items():
            clock, processor = (statistics.median(column) for column in zip(*measurements, strict=True))
            print(f"{what}: {clock:.3f} s by the clock, {processor:.3f} s of processors")


def agreement(root: str) -> None:
    folder = ClassFolder.open(root)
    runtime = Runtime.choose()
    model = registry.load("cifarnet").to(runtime)
    layer = features.hidden(model)
    with tempfile.TemporaryDirectory() as scratch:
        index = Index(Path(scratch) / "index", made_with(model, layer, runtime))
        index.update(
            folder.paths, partial(feature_vectors, model, features.LayerVectors(model, layer), runtime=runtime)
        )
        vectors = torch.empty(len(folder.paths), *layer.shape)
        for positions, block in index.blocks(index.positions(folder.paths)):
            vectors[positions] = block
        labels, asked = torch.tensor(folder.labels), torch.arange(0, len(vectors), 20)
        for metric in METRICS:
            found, _ = nearest(
                vectors[asked], partial(index.blocks, index.positions(folder.paths)), 5, metric, exclude=asked
            )
            fraction = (labels[found] == labels[asked][:, None]).float().mean().item()
            print(f"{metric}: {fraction:.1%} of the 5 nearest of {len(asked)} images are of the same class")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agreement", metavar="CLASSES")
    arguments = parser.parse_args()
    if arguments.agreement:
        agreement(arguments.agreement)
    else:
        speed(arguments.count, arguments.queries, arguments.rounds)


if __name__ == "__main__":
    main()

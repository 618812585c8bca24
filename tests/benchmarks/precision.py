"""What bfloat16 changes in the results of commands that rank or measure, and what float32 costs.

    python tests/benchmarks/precision.py PHOTOS [--models efficientnet_lite0 cifarnet] [--count 500] [--rounds 3]

Everything is computed in fp32, in bf16, and again in fp32 with batches of another size: the last says what rounding
alone exchanges. `head` is bf16 with the last layer in fp32. Compared with the first are:

patches         units of each stage of which the images of the 9 greatest maxima, or their order, differ
neighbors       images of which the 5 nearest others (cosine, last hidden layer), or their order, differ
classify        images of which the class, or the order of the first five, differ; and ties among the first five
siamese-verify  pairs of images of which the order by distance differs (roots of conv4 over 3 x 3 regions, on a sphere)
gan             the Frechet distance of one half of the images to the other
equivariance    the mean error of each stage under a shift by a whole number of strides, and by half of one

Where images are named by WordNet ids, the accuracy of `classify` is given as well. Times are the least of the rounds,
of the processor and of the network alone, images prepared before.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mlcli.data.sources import find_images
from mlcli.imaging.decoding import decode
from mlcli.methods.evaluation import classification
from mlcli.methods.generation.fid_kid import Features, frechet
from mlcli.methods.metric_learning.embedder import Siamese
from mlcli.methods.metric_learning.losses import Sphere
from mlcli.methods.visualization.equivariance import Measure, named_layers
from mlcli.methods.visualization.nearest_neighbors import nearest
from mlcli.methods.visualization.top_patches import PreparedImage, search
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime

TOP, NEIGHBORS, NAMED = 9, 5, 5
BATCH, OTHER = 32, 25
FP32, BF16, AGAIN, HEAD = "fp32", "bf16", "fp32 again", "head"


class Setting:
    """One model and one arithmetic, for images that are prepared."""

    def __init__(self, name: str, precision: str, prepared: Tensor):
        self.runtime = Runtime.choose("cpu", precision.split()[0])
        self.batch = OTHER if precision == AGAIN else BATCH
        self.model = registry.load(name).to(self.runtime)
        self.prepared = prepared

    def patches(self) -> dict[str, list[list[int]]]:
        """stage: the images of the greatest maxima of each unit."""
        units = {layer.alias: range(layer.units) for layer in features.layers(self.model) if layer.alias}
        images = ((number, PreparedImage(image, *image.shape[1:])) for number, image in enumerate(self.prepared))
        found = search(self.model, units, images, self.runtime, top=TOP, batch_size=self.batch)
        return {
            stage: [[patch.image for patch in patches.of(unit)["strongly_positive"]] for unit in patches.units]
            for stage, patches in found.items()
        }

    def vectors(self) -> Tensor:
        """(N, D) of the last hidden layer."""
        return Features(self.model, self.runtime)(self.prepared, self.batch)

    def probabilities(self) -> Tensor:
        return torch.cat(
            [classification.predict(self.model, images, self.runtime) for images in self.prepared.split(self.batch)]
        )

    def points(self) -> Tensor:
        siamese = Siamese(self.model, Sphere(0), 1, False, False, self.runtime, layer="conv4")
        return torch.cat([siamese.points(images) for images in self.prepared.split(self.batch)])

    def equivariance(self, count: int) -> dict[str, list[float]]:
        layers = {name: layer for name, layer in named_layers(self.model, []).items() if layer.is_map}
        stride = max(layer.stride for layer in layers.values())
        shifts = [round(stride), round(stride / 2)]
        measure = Measure(self.model, layers, "shift", shifts, Runtime.choose("cpu", "fp32"), "circular")
        with self.runtime.autocast():  # which the command does not
            measure.add(self.prepared[:count])
        return {found.name: found.equivariance.mean() for found in measure.findings}


class HeadInFp32(Setting):
    """A body in bf16 and a last layer in fp32."""

    def __init__(self, name: str, prepared: Tensor):
        super().__init__(name, BF16, prepared)
        head = features.head(self.model).module
        inner = head.forward

        def forward(values: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return inner(values.float())

        head.forward = forward


def differing(ours: Sequence, theirs: Sequence) -> str:
    """How many rows hold other numbers, and how many have another order."""
    members = sum(set(a) != set(b) for a, b in zip(ours, theirs, strict=True))
    order = sum(list(a) != list(b) for a, b in zip(ours, theirs, strict=True))
    return f"{members} of {len(ours)} other members, {order} another order"


def neighbors(vectors: Tensor) -> list[list[int]]:
    every = torch.arange(len(vectors))
    return nearest(vectors, lambda: iter([(every, vectors)]), NEIGHBORS, exclude=every)[0].tolist()


def order_of_pairs(exact: Tensor, other: Tensor) -> str:
    """Of the distances of all pairs of images: how many pairs of them, drawn at random, are ordered otherwise."""
    one, two = (torch.pdist(points.double()) for points in (exact, other))
    drawn = torch.randint(len(one), (2, 100_000), generator=torch.Generator().manual_seed(0))
    swapped = ((one[drawn[0]] < one[drawn[1]]) != (two[drawn[0]] < two[drawn[1]])).double().mean().item()
    return f"{swapped:.2%} of pairs ordered otherwise, distances differ by at most {(one - two).abs().max():.2e}"


def classified(exact: Tensor, other: Tensor, labels: Tensor | None) -> str:
    named, best = exact.topk(NAMED).indices.tolist(), other.topk(NAMED)
    ties = (best.values[:, 1:] == best.values[:, :-1]).any(1).sum().item()
    changed = (exact.argmax(1) != other.argmax(1)).sum().item()
    text = f"{changed} of {len(exact)} another class; first {NAMED}: {differing(named, best.indices.tolist())}; "
    text += f"{ties} with ties; probabilities differ by at most {(exact - other).abs().max():.4f}"
    if labels is not None:
        hits = best.indices == labels[:, None]
        text += f"; top-1 {hits[:, 0].double().mean():.1%}, top-{NAMED} {hits.any(1).double().mean():.1%}"
    return text


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The least time of the processor, which other work on the machine lengthens little."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def labels_of(paths: Sequence[Path], model: Model) -> Tensor | None:
    """The classes that names such as n01440764_tench.jpg give; None where the model has no WordNet ids."""
    known = {wnid: number for number, wnid in enumerate(model.wnids)}
    numbers = [known.get(path.name.partition("_")[0]) for path in paths]
    return None if None in numbers else torch.tensor(numbers)


def compare(name: str, paths: Sequence[Path], rounds: int) -> None:
    model = registry.load(name)
    found = list(decode(paths, model.preprocessing.prepare))
    paths = [paths[number] for number, image in found if isinstance(image, Tensor)]
    prepared = torch.stack([image for _, image in found if isinstance(image, Tensor)])
    labels = labels_of(paths, model)
    settings = {precision: Setting(name, precision, prepared) for precision in (FP32, BF16, AGAIN)}
    print(f"\n{name}, {len(prepared)} images of {prepared.shape[-1]} pixels", flush=True)

    vectors = {precision: setting.vectors() for precision, setting in settings.items()}
    for precision in (BF16, AGAIN):
        print(f"neighbors, {precision}: {differing(*(neighbors(vectors[p]) for p in (FP32, precision)))}")
    rows = {precision: setting.probabilities() for precision, setting in settings.items()}
    settings[HEAD] = HeadInFp32(name, prepared)
    rows[HEAD] = settings[HEAD].probabilities()
    for precision, other in rows.items():
        print(f"classify, {precision}: {classified(rows[FP32], other, labels)}", flush=True)
    points = {precision: setting.points() for precision, setting in settings.items()}
    for precision in (BF16, AGAIN):
        print(f"siamese-verify, {precision}: {order_of_pairs(points[FP32], points[precision])}")
    for precision, values in vectors.items():
        print(f"gan, {precision}: Frechet distance {frechet(values[::2], values[1::2]):.5f}")
    for precision in (FP32, BF16):
        errors = {
            stage: " ".join(f"{e:.1e}" for e in row) for stage, row in settings[precision].equivariance(4).items()
        }
        print(f"equivariance, {precision}: {errors}", flush=True)

    times = {p: seconds(settings[p].probabilities, rounds) / len(prepared) for p in (FP32, BF16, HEAD)}
    print("classify:", ", ".join(f"{precision} {1000 * s:.2f} ms an image" for precision, s in times.items()))

    stages = {precision: setting.patches() for precision, setting in settings.items()}
    for precision in (BF16, AGAIN):
        for stage, exact in stages[FP32].items():
            print(f"patches, {stage}, {precision}: {differing(exact, stages[precision][stage])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--models", nargs="+", default=["efficientnet_lite0", "cifarnet"])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    paths = find_images([arguments.photos]).paths[: arguments.count]
    for name in arguments.models:
        compare(name, paths, arguments.rounds)


if __name__ == "__main__":
    main()

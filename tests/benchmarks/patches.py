"""`mlcli patches` against a brute-force pass: one image at a time, everything kept, everything sorted.

    python tests/benchmarks/patches.py PHOTOS [--count 200] [--top 9] [--batch-size 64] [--model cifarnet] [--memory]

For every unit of each stage the groups of patches must be the same images, positions and boxes. Both run in fp32, whose
last digits depend on how many images are computed at once, so an exchange of neighbors in the order whose values
differ by less than 1e-4 is counted apart; with --batch-size 1 there is none. The values of the strongest patches must
also be the maxima of what the network's own modules give (after the ReLU). --memory: the peak memory of the command
over 1 and 4 times the folder.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from mlcli.data.sources import find_images
from mlcli.imaging.decoding import decode
from mlcli.methods.visualization import top_patches as method
from mlcli.models import registry
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime

CLOSE = 1e-4


def brute_force(model, paths, layers):
    """{layer: ((units, images) maxima, their positions, minima, their positions, maxima after the ReLU)}, sizes."""
    signed = features.Activations(model, [layer.alias + "@signed" for layer in layers])
    whole = {}
    for layer in layers:
        module = model.network.get_submodule(layer.alias)
        module.register_forward_hook(lambda _, __, output, name=layer.alias: whole.__setitem__(name, output.clone()))
    rows = {layer.alias: [] for layer in layers}
    sizes = []
    with torch.inference_mode():
        for _, image in decode(paths, lambda image: method.PreparedImage.prepare(model.preprocessing, image)):
            sizes.append((image.height, image.width))
            values = signed(image.prepared[None])
            model(image.prepared[None])
            for name, found in rows.items():
                flat = values[name + "@signed"][0].flatten(1)
                found.append((flat.amax(1), flat.argmax(1), flat.amin(1), flat.argmin(1), whole[name][0].amax((1, 2))))
    return {
        name: [torch.stack(column, 1) for column in zip(*found, strict=True)] for name, found in rows.items()
    }, sizes


def expected(values, positions, sign, top):
    """(strong, slight) of a unit: [(value, image, position)] from all its extremes (images,)."""
    order = sorted(range(len(values)), key=lambda i: (-sign * values[i], i))
    every = 1
    while len(range(0, len(values), every)) > method.SAMPLE:
        every *= 2
    ranked = [i for i in order if i % every == 0 and sign * values[i] > 0]
    first = max(0, min(int(method.SLIGHT * len(ranked)) - top // 2, len(ranked) - top))
    return [[(values[i], i, positions[i]) for i in chosen] for chosen in (order[:top], ranked[first : first + top])]


def compare(model, paths, top, batch_size) -> None:
    runtime = Runtime.choose("cpu", "fp32")
    model = model.to(runtime)
    layers = [layer for layer in features.layers(model) if layer.alias]
    units = {layer.alias: range(layer.units) for layer in layers}
    images = decode(paths, lambda image: method.PreparedImage.prepare(model.preprocessing, image))
    began = time.perf_counter()
    found = method.search(model, units, images, runtime, top=top, batch_size=batch_size)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    brute, sizes = brute_force(model, paths, layers)
    print(f"{len(paths)} images: {ours:.1f} s, brute force {time.perf_counter() - began:.1f} s")
    crop = model.preprocessing.crop
    for layer in layers:
        maxima, at_most, minima, at_least, rectified = (column.tolist() for column in brute[layer.alias])
        same = exchanged = wrong = 0
        for unit in units[layer.alias]:
            groups = found[layer.alias].of(unit)
            strong_plus, slight_plus = expected(maxima[unit], at_most[unit], 1, top)
            strong_minus, slight_minus = expected(minima[unit], at_least[unit], -1, top)
            answers = dict(zip(method.GROUPS, (strong_plus, slight_plus, slight_minus, strong_minus), strict=True))
            for group, answer in answers.items():
                assert len(groups[group]) == len(answer)
                for patch, (value, image, position) in zip(groups[group], answer, strict=True):
                    row, column = divmod(position, layer.shape[2])
                    box = model.preprocessing.source_box(layer.box(row, column, crop, crop), *sizes[image])
                    equal = (patch.image, patch.position, patch.box) == (image, (row, column), box)
                    close = abs(patch.value - value) < CLOSE
                    same += equal and close
                    exchanged += close and not equal
                    wrong += not close
            best = groups["strongly_positive"][0]
            wrong += abs(max(best.value, 0) - max(rectified[unit])) > CLOSE
        print(
            f"{layer.alias}: {same} patches equal, {exchanged} exchanged with one as strong, {wrong} wrong", flush=True
        )


def peak_memory(model: str, photos: str, times: int) -> float:
    """GB of a process that goes over the folder so many times."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(times):
            (Path(folder) / str(number)).mkdir()
            for path in find_images([photos]).paths:
                (Path(folder) / str(number) / path.name).symlink_to(os.path.abspath(path))
        command = [sys.executable, "-m", "mlcli.cli", "patches", folder, "--model", model, "-q", "-o", folder + "/out"]
        subprocess.run(command, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--top", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--model", default="cifarnet")
    parser.add_argument("--memory", action="store_true", help="measure the peak memory as well")
    arguments = parser.parse_args()
    if arguments.memory:
        one, four = (peak_memory(arguments.model, arguments.photos, times) for times in (1, 4))
        print(f"peak memory {one:.2f} GB for the folder, {four:.2f} GB for four times the folder")
    paths = find_images([arguments.photos]).paths[: arguments.count]
    compare(registry.load(arguments.model), paths, arguments.top, arguments.batch_size)


if __name__ == "__main__":
    main()

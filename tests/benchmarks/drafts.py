"""JPEGs of 12 megapixels: images a second decoded and prepared at a fraction of their size and whole, and predictions.

    python tests/benchmarks/drafts.py PHOTOS [--count 100] [--model efficientnet_lite0] [--rounds 3]

The photographs are enlarged to 4,000 x 3,000 pixels, since cameras make such files, and written with quality 90. The
rates are those of one thread, alternately.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from mlcli.data.folders import spread
from mlcli.data.sources import find_images
from mlcli.imaging import image_io
from mlcli.methods.evaluation.classification import predict
from mlcli.models import registry
from mlcli.runtime.device import Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = registry.load(options.model)
    model.network.eval()
    runtime, prepare = Runtime(torch.device("cpu"), "fp32"), model.preprocessing.prepare
    found = find_images([options.photos]).paths
    ways = {"whole": image_io.read, "at a fraction": model.preprocessing.read}
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in spread(options.count, len(found)):
            paths.append(Path(folder) / f"{number}.jpg")
            Image.open(found[number]).convert("RGB").resize((4000, 3000)).save(paths[-1], quality=90)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        prepared: dict[str, list[torch.Tensor]] = {}
        for _ in range(options.rounds):
            for name, read in ways.items():
                began = time.process_time()
                prepared[name] = [prepare(read(path)) for path in paths]
                rates[name].append(len(paths) / (time.process_time() - began))
    whole, draft = map(torch.stack, prepared.values())
    compute = partial(predict, model, runtime=runtime)
    first = [torch.cat([compute(part) for part in images.split(16)]) for images in (whole, draft)]
    for name, some in rates.items():
        print(f"{name:14} {statistics.median(some):.1f} images for each second of a processor")
    ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    same = (first[0].argmax(1) == first[1].argmax(1)).sum().item()
    largest, levels = (first[0] - first[1]).abs().max(), (whole.float() - draft.float()).abs().mean()
    print(f"same first class {same} of {len(paths)}; probabilities differ by at most {largest:.3f}, prepared images by")
    print(f"{levels:.2f} levels of 255 on average")


if __name__ == "__main__":
    main()

"""How well `mlcli analogy` learns a known filter, how near its search comes to brute force, and how long it takes.

    python tests/benchmarks/analogy.py filters [PHOTOS] [--pairs 8] [--seed 0]
    python tests/benchmarks/analogy.py search [PHOTOS] [--seed 0]
    python tests/benchmarks/analogy.py time

filters: pairs A, B of photographs at 256 x 256. A' is A filtered; by how many dB of PSNR, in luminance, is B' nearer to
B filtered than B is? PHOTOS: a folder; without it the pairs come from samples/photos.
search: the mean distance of the neighborhoods of the results against those of an exact search, for each filter at
256 x 256.
time: seconds for each mode at 512 x 512.
"""

import argparse
import math
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from mlcli.data.sources import find_images
from mlcli.imaging import image_io
from mlcli.methods.painting import image_analogies
from mlcli.methods.painting.configs import ANALOGIES
from mlcli.runtime.random_streams import generator

SAMPLES = Path(__file__).parents[2] / "samples" / "photos"
PAIRS = (("astronaut", "coffee"), ("cat", "rocket"), ("coffee", "cat"), ("rocket", "astronaut"))


def correlate(image, kernel):
    kernel = torch.tensor(kernel, dtype=torch.float32)
    margin = [side // 2 for side in kernel.shape]
    around = F.pad(image[:, None], (margin[1], margin[1], margin[0], margin[0]), mode="replicate")
    return F.conv2d(around, kernel[None, None])[:, 0]


def emboss(gray):
    return (0.5 + correlate(gray, [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]) / 2).clamp(0, 1)


def sobel(gray):
    across = correlate(gray, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    down = correlate(gray, [[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    return (across.square() + down.square()).sqrt().div(2).clamp(0, 1)


def blur(gray, sigma=3.0):
    bell = torch.exp(-(torch.arange(-9.0, 10) ** 2) / (2 * sigma**2))
    bell = (bell / bell.sum())[None]
    return correlate(correlate(gray, bell.tolist()), bell.T.tolist())


FILTERS = {"emboss": (emboss, 6.0), "sobel": (sobel, 6.0), "gaussian blur, sigma 3 px": (blur, 3.0)}


def photograph(path, side=256):
    return image_io.fit(image_io.to_unit(image_io.read(path)), side)


def filtered(image, function):
    return function(image_io.to_gray(image)).expand(3, -1, -1).contiguous()


def psnr(one, other):
    return -10 * math.log10((image_io.to_gray(one) - image_io.to_gray(other)).square().mean())


def pairs(folder, count, seed):
    if folder is None:
        return [tuple(SAMPLES / f"{name}.jpg" for name in pair) for pair in PAIRS]
    paths = find_images([folder]).paths
    order = torch.randperm(len(paths), generator=generator(seed)).tolist()
    return [(paths[one], paths[other]) for one, other in zip(order[::2], order[1::2], strict=False)][:count]


def learn(a, b, function, seed, **more):
    return image_analogies.create(
        a, filtered(a, function), b, replace(ANALOGIES["filter"], color="b", seed=seed), **more
    )


def filters(arguments):
    gains = {name: [] for name in FILTERS}
    for one, other in pairs(arguments.photos, arguments.pairs, arguments.seed):
        a, b = photograph(one), photograph(other)
        for name, (function, _) in FILTERS.items():
            truth = filtered(b, function)
            before, after = psnr(b, truth), psnr(learn(a, b, function, arguments.seed).b_prime, truth)
            gains[name].append(after - before)
            print(
                f"{one.stem} : {other.stem}: {name}: {before:.1f} to {after:.1f} dB, {after - before:+.1f}", flush=True
            )
    for name, (_, bar) in FILTERS.items():
        kept = sum(gain >= bar for gain in gains[name])
        print(
            f"{name}: {kept} of {len(gains[name])} pairs gain {bar:.0f} dB; "
            f"least {min(gains[name]):.1f}, median {statistics.median(gains[name]):.1f}"
        )


def search(arguments):
    for one, other in pairs(arguments.photos, 2, arguments.seed)[:2]:
        a, b = photograph(one), photograph(other)
        for name, (function, _) in FILTERS.items():
            found = learn(a, b, function, arguments.seed).distance
            exact = learn(a, b, function, arguments.seed, cells=1).distance
            print(
                f"{one.stem} : {other.stem}: {name}: {found:.5f}, exact {exact:.5f}, {found / exact - 1:+.2%}",
                flush=True,
            )


def seconds(_):
    gravel, astronaut, coffee = (photograph(SAMPLES / f"{name}.jpg", 512) for name in ("gravel", "astronaut", "coffee"))
    label_a, label_b = ((image > 0.5).float() for image in (coffee, astronaut))
    works = {
        "filter": (astronaut, filtered(astronaut, emboss), coffee),
        "texture-transfer": (gravel, gravel, astronaut),
        "texture-synthesis": (None, gravel, None),
        "texture-by-numbers": (label_a, coffee, label_b),
    }
    for mode, (a, a_prime, b) in works.items():
        wall, processor = time.perf_counter(), time.process_time()
        image_analogies.create(a, a_prime, b, ANALOGIES[mode], size=(512, 512))
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        threads = torch.get_num_threads()
        print(f"{mode}: {wall:.1f} s, {processor:.1f} s of the processor, {threads} threads", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("filters", "search", "time"))
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    {"filters": filters, "search": search, "time": seconds}[arguments.what](arguments)

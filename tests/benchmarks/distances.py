"""Whether distances in the features of a model order sets of images by how far they are from real ones, and their time.

    python tests/benchmarks/distances.py CLASSES [--models cifarnet efficientnet_lite0] [--each 40] [--size 32]

CLASSES is a folder of class folders. The first images of each class are compared with the next ones as they are, with
noise (standard deviations of 255), blurred (by means over squares), of half the classes alone, of one class alone, and
blended two and two. Time is that of the processor.
"""

import argparse
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.data.folders import ClassFolder
from mlcli.imaging import image_io
from mlcli.methods.generation.fid_kid import Features, frechet, kernel
from mlcli.models import registry
from mlcli.runtime.device import Runtime


def read(folder: ClassFolder, labels: range, first: int, each: int, size: int) -> Tensor:
    """(N, 3, size, size) uint8, `each` images of each label from the one of number `first` on."""
    chosen = []
    for label in labels:
        own = [path for path, other in zip(folder.paths, folder.labels, strict=True) if other == label]
        chosen += own[first : first + each]
    return torch.stack([image_io.fit(image_io.read(path), size) for path in chosen])


def degraded(real: Tensor, each: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    values, classes = real.float(), len(real) // each
    sets = {"real": real}
    for deviation in (5, 10, 20, 40):
        noise = deviation * torch.randn(values.shape, generator=random)
        sets[f"noise of {deviation}"] = (values + noise).clamp(0, 255).byte()
    for side in (2, 4, 8):
        blurred = F.interpolate(F.avg_pool2d(values, side), size=real.shape[-2:], mode="bilinear")
        sets[f"blurred by {side}"] = blurred.clamp(0, 255).byte()
    half = classes // 2
    sets[f"{half} of {classes} classes"] = real[: half * each].repeat(2, 1, 1, 1)
    sets["one class"] = real[:each].repeat(classes, 1, 1, 1)
    sets["blended"] = ((values + values[torch.randperm(len(values), generator=random)]) / 2).byte()
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes")
    parser.add_argument("--models", nargs="+", default=["cifarnet", "efficientnet_lite0"])
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    folder = ClassFolder.open(arguments.classes)
    labels = range(len(folder.classes))
    known, others = (read(folder, labels, n * arguments.each, arguments.each, arguments.size) for n in (0, 1))
    runtime = Runtime.choose("cpu", "fp32")
    for name in arguments.models:
        features = Features(registry.load(name).to(runtime), runtime)
        began = time.process_time()
        real = features(known)
        print(f"{name}: {1000 * (time.process_time() - began) / len(known):.1f} ms an image", flush=True)
        for what, shown in degraded(others, arguments.each).items():
            found = features(shown)
            print(f"  {what}: Frechet {frechet(real, found):.2f}, kernel {kernel(real, found):.4f}", flush=True)


if __name__ == "__main__":
    main()

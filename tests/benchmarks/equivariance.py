"""Whether what must be equivariant to translation is: the Sobel detector, and the convolutions of both default models.

    python tests/benchmarks/equivariance.py IMAGES... [--count 20] [--models sobel cifarnet efficientnet_lite0]

For each layer and both paddings the greatest error over all shifts that need no interpolation, each image
by itself; it should be under 1e-5.
"""

import argparse

import torch

from mlcli.data.sources import find_images
from mlcli.imaging import image_io
from mlcli.methods.visualization import motion
from mlcli.methods.visualization.equivariance import Measure, named_layers
from mlcli.models import registry
from mlcli.runtime.device import Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--count", type=int, default=20, help="images at most")
    parser.add_argument("--models", nargs="+", default=["sobel", "cifarnet", "efficientnet_lite0"])
    arguments = parser.parse_args()
    paths = find_images(arguments.images).paths[: arguments.count]
    runtime = Runtime.choose("cpu", "fp32")
    for name in arguments.models:
        model = registry.load(name).to(runtime)
        x = torch.stack([model.preprocessing.prepare(image_io.read(path)) for path in paths])
        layers = {name: layer for name, layer in named_layers(model, []).items() if layer.is_map}
        for border in (motion.CIRCULAR, motion.SYMMETRIC):
            stride = max(layer.stride for layer in layers.values())
            shifts = motion.amounts("shift", None, 17, model.preprocessing.crop, stride)
            errors = dict.fromkeys(layers, 0.0)
            for image in x.split(1):
                measure = Measure(model, layers, "shift", shifts, runtime, border)
                measure.add(image)
                for found in measure.findings:
                    exact = [e for e, whole in zip(found.equivariance.mean(), found.exact, strict=True) if whole]
                    errors[found.name] = max(errors[found.name], *exact)
            print(f"{name}, --padding {border}, {len(x)} images:", {key: f"{e:.1e}" for key, e in errors.items()})


if __name__ == "__main__":
    main()

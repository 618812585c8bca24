"""How often the embedded network under --precision auto and under fp32 name the same class.

python tests/benchmarks/agreement.py IMAGES...
"""

import argparse

import torch

from mlcli.data.sources import find_images
from mlcli.methods.evaluation.classification import probabilities
from mlcli.models import registry
from mlcli.runtime.device import Runtime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+")
    paths = find_images(parser.parse_args().images).paths
    rows = {}
    for precision in ("fp32", "auto"):
        runtime = Runtime.choose("auto", precision)
        answers = probabilities(registry.load("cifarnet").to(runtime), paths, runtime, batch_size=250)
        rows[precision] = torch.stack([row for _, row in answers])
    same = (rows["fp32"].argmax(1) == rows["auto"].argmax(1)).float().mean().item()
    difference = (rows["fp32"] - rows["auto"]).abs().max().item()
    print(
        f"{len(paths)} images: same class in {same:.2%}, probabilities differ by at most {difference:.3f} "
        f"({Runtime.choose().precision} against fp32)"
    )


if __name__ == "__main__":
    main()

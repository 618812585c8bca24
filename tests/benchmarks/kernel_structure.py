"""How many kernels of a first layer show structure rather than noise.

    python tests/benchmarks/kernel_structure.py [--model cifarnet]

Structure is measured as the correlation of each kernel with itself moved by one pixel, in the best of the four
directions: an edge or a line is alike along itself, a colour blob in every direction. For white noise of 7 x 7 x 3 it
is below 0.3 in 99 of 100 kernels (measured by the same command with random weights). The picture of `mlcli filters`
has the last word.
"""

import argparse

import torch
from torch import Tensor

from mlcli.engine import features, models

NOISE = 0.3


def self_similarity(weight: Tensor) -> Tensor:
    """(N,) the highest correlation, -1 to 1, of kernels (N, C, k, k) with themselves moved by one pixel."""
    weight = weight - weight.mean((1, 2, 3), keepdim=True)
    size = weight.shape[-1]
    scores = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = weight[..., : size - dy, max(0, -dx) : size - max(0, dx)].flatten(1)
        there = weight[..., dy:, max(0, dx) : size + min(0, dx)].flatten(1)
        scores.append(torch.nn.functional.cosine_similarity(here, there, dim=1))
    return torch.stack(scores).amax(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifarnet")
    weight = features.convolution(models.load(parser.parse_args().model), "conv1").module.weight.detach().float()
    torch.manual_seed(0)
    noise = self_similarity(torch.randn(10_000, *weight.shape[1:]))
    scores = self_similarity(weight)
    for name, values in ((f"the {len(scores)} kernels", scores), ("white noise", noise)):
        print(f"{name}: {(values > NOISE).float().mean():.1%} above {NOISE}, median {values.median():.2f}")


if __name__ == "__main__":
    main()

"""RISE (Petsiuk et al. 2018): the mean of random masks, weighted by the target's value for the image behind each.

A mask is a grid of CELLS x CELLS random zeros and ones, enlarged bilinear by a little more than the image's side and
shifted at random. What it hides is gray (the mean of the training data).

Deviation: from the values of the target their mean is subtracted, which leaves what is expected as it is, but for a
constant, and takes away what the masks' unequal coverage of the image adds.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target
from mlcli.runtime.random_streams import rng

CELLS = 7
VISIBLE = 0.5  # the probability of a cell


def rise(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The map (H, W) of each image."""
    return [
        Attribution(_of_image(scorer, image, target, config)) for image, target in zip(images, targets, strict=True)
    ]


def _of_image(scorer: Scorer, image: Tensor, target: Target, config: Explaining) -> Tensor:
    height, width = image.shape[1:]
    total, weighted = (torch.zeros(height, width, device=image.device) for _ in range(2))
    values = 0.0
    for first in range(0, config.masks, scorer.chunk):
        count = min(scorer.chunk, config.masks - first)
        some = masks(count, height, width, first, config.seed).to(image.device)
        scores = scorer.values(image * some[:, None], [target] * count)
        weighted += torch.tensordot(scores, some, 1)
        total += some.sum(0)
        values += scores.sum().item()
    return (weighted - values / config.masks * total) / (config.masks * VISIBLE)


def masks(count: int, height: int, width: int, first: int, seed: int) -> Tensor:
    """Masks (count, height, width) in [0, 1]; `first` is the number of the first of them."""
    random = rng(seed, "rise/masks", first)
    rows, columns = -(-height // CELLS), -(-width // CELLS)  # pixels of a cell
    coarse = (torch.rand(count, 1, CELLS + 1, CELLS + 1, generator=random) < VISIBLE).float()
    fine = F.interpolate(coarse, ((CELLS + 1) * rows, (CELLS + 1) * columns), mode="bilinear", align_corners=False)
    tops = torch.randint(rows, (count,), generator=random).tolist()
    lefts = torch.randint(columns, (count,), generator=random).tolist()
    return torch.stack(
        [mask[0, top : top + height, left : left + width] for mask, top, left in zip(fine, tops, lefts, strict=True)]
    )

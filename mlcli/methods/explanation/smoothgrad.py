"""SmoothGrad (Smilkov et al. 2017): the mean gradient of noisy copies of an image.

The noise is Gaussian, its standard deviation a fraction of the range of the image's normalized values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mlcli.methods.explanation.attribution import Attribution
from mlcli.methods.explanation.configs import Explaining
from mlcli.methods.explanation.scoring import Scorer
from mlcli.methods.explanation.targets import Target
from mlcli.runtime.random_streams import rng


def smoothgrad(scorer: Scorer, images: Tensor, targets: Sequence[Target], config: Explaining) -> list[Attribution]:
    """The mean gradient (C, H, W) of each image's target. All images have the same noise, but for its scale."""
    noise = torch.randn(config.samples, *images.shape[1:], generator=rng(config.seed, "smoothgrad/noise"))
    noise = noise.to(images.device)
    found = []
    for image, target in zip(images, targets, strict=True):
        scale = config.noise * (image.max() - image.min())
        _, gradients = scorer.gradients(image + scale * noise, [target] * config.samples)
        found.append(Attribution(gradients.mean(0)))
    return found

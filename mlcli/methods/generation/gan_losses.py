"""The losses of the two-player game: what the discriminator D and the generator G minimize, given what D says.

Each loss is a pair of functions of D's outputs, before any sigmoid. An output is a tensor of any shape (a number for
each image, or a map of patches), of which the mean is taken, or a list of such tensors from discriminators at several
scales, whose losses are summed (Wang et al. 2018, eq. 3). Half precision is widened to float32 first.

Where the papers of translation halve D's loss to slow it down, that is the caller's factor: here are the plain sums.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Outputs = Tensor | Sequence[Tensor]


class Adversarial(NamedTuple):
    """The two sides of a loss; each returns a scalar."""

    discriminator: Callable[[Outputs, Outputs], Tensor]  # (D's outputs of real images, of generated ones)
    generator: Callable[[Outputs], Tensor]  # (D's outputs of generated images)


def non_saturating_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """-E[log s(D(x))] - E[log(1 - s(D(G(z))))], s the sigmoid (Goodfellow et al. 2014, eq. 1): the minimax game's."""
    return _mean(lambda d: F.softplus(-d), real) + _mean(F.softplus, fake)


def non_saturating_generator(fake: Outputs) -> Tensor:
    """-E[log s(D(G(z)))]: not the minimax game's E[log(1 - s(D(G(z))))], whose gradient vanishes where D is sure.

    Goodfellow et al. 2014, section 3; binary cross-entropy against the label "real", as in pix2pix.
    """
    return _mean(lambda d: F.softplus(-d), fake)


def least_squares_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """E[(D(x) - 1)^2] + E[D(G(z))^2] (Mao et al. 2017, eq. 2 and 9, without the factor 1/2, as Zhu et al. 2017)."""
    return _mean(lambda d: (d - 1).square(), real) + _mean(torch.square, fake)


def least_squares_generator(fake: Outputs) -> Tensor:
    """E[(D(G(z)) - 1)^2] (Mao et al. 2017, eq. 9, without the factor 1/2)."""
    return _mean(lambda d: (d - 1).square(), fake)


def hinge_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))] (Miyato et al. 2018, eq. 16; Brock et al. 2019)."""
    return _mean(lambda d: F.relu(1 - d), real) + _mean(lambda d: F.relu(1 + d), fake)


def hinge_generator(fake: Outputs) -> Tensor:
    """-E[D(G(z))] (Miyato et al. 2018, eq. 17)."""
    return -_mean(lambda d: d, fake)


def wasserstein_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """E[D(G(z))] - E[D(x)] (Arjovsky et al. 2017, eq. 2); add a multiple of `gradient_penalty`, 10 in the paper."""
    return _mean(lambda d: d, fake) - _mean(lambda d: d, real)


wasserstein_generator = hinge_generator  # -E[D(G(z))] (Arjovsky et al. 2017, theorem 3)


LOSSES = {
    "non-saturating": Adversarial(non_saturating_discriminator, non_saturating_generator),
    "least-squares": Adversarial(least_squares_discriminator, least_squares_generator),
    "hinge": Adversarial(hinge_discriminator, hinge_generator),
    "wasserstein": Adversarial(wasserstein_discriminator, wasserstein_generator),
}


def gradient_penalty(critic: Callable[[Tensor], Outputs], real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """E[(||grad D(x')||_2 - 1)^2] at x' = epsilon x + (1 - epsilon) G(z) (Gulrajani et al. 2017, eq. 3): a scalar.

    critic: (N, ...) -> its outputs; labels or a condition are its own affair. It must treat the images of a batch
    apart from each other (no batch norm).  real, fake: (N, ...), of one shape.  epsilon: (N,) in [0, 1], uniform.
    D(x') is the mean of an image's patches, summed over the scales: what `wasserstein_discriminator` is the mean of.
    """
    epsilon = epsilon.to(real).view(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake.detach(), real.detach(), epsilon).requires_grad_()
    total = sum(_wide(d).reshape(len(d), -1).mean(1).sum() for d in _each(critic(between)))
    (slope,) = torch.autograd.grad(total, between, create_graph=True)  # (N, ...)
    return (_wide(slope).flatten(1).norm(dim=1) - 1).square().mean()


def _mean(of: Callable[[Tensor], Tensor], outputs: Outputs) -> Tensor:
    """The mean of a function of the outputs, summed over the scales."""
    return sum(of(_wide(d)).mean() for d in _each(outputs))


def _each(outputs: Outputs) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values

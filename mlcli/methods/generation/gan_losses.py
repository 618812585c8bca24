"""Adversarial losses: what the discriminator D and the generator G minimize, as functions of D's outputs.

Each loss is a pair of functions of D's outputs, before any sigmoid. An output is a tensor of any shape (a number for
each image, or a map of patches), of which the mean is taken, or a list of such tensors from discriminators at several
scales, whose losses are summed (Wang et al. 2018, eq. 3). Half precision is converted to float32 first.

The papers on image-to-image translation halve D's loss to slow D down. That factor is left to the caller.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Outputs = Tensor | Sequence[Tensor]


class Adversarial(NamedTuple):
    """The two parts of a loss; each returns a scalar."""

    discriminator: Callable[[Outputs, Outputs], Tensor]  # (D's outputs for real images, for generated images)
    generator: Callable[[Outputs], Tensor]  # (D's outputs for generated images)


def non_saturating_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """-E[log s(D(x))] - E[log(1 - s(D(G(z))))], with the sigmoid s (Goodfellow et al. 2014, eq. 1)."""
    return _mean(lambda d: F.softplus(-d), real) + _mean(F.softplus, fake)


def non_saturating_generator(fake: Outputs) -> Tensor:
    """-E[log s(D(G(z)))]: not E[log(1 - s(D(G(z))))] of the minimax game, whose gradient vanishes where D is sure.

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

    critic: (N, ...) -> its outputs; a function that needs labels or a condition must hold them itself. It must treat
    each image of a batch by itself (no batch norm).  real, fake: (N, ...), of one shape.  epsilon: (N,), uniform in
    [0, 1].  D(x') is the mean over an image's patches, summed over the scales, as in `wasserstein_discriminator`.
    """
    epsilon = epsilon.to(real).view(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake.detach(), real.detach(), epsilon).requires_grad_()
    total = _sum(_wide(d).reshape(len(d), -1).mean(1).sum() for d in _each(critic(between)))
    (gradient,) = torch.autograd.grad(total, between, create_graph=True)  # (N, ...)
    return (_wide(gradient).flatten(1).norm(dim=1) - 1).square().mean()


def _mean(function: Callable[[Tensor], Tensor], outputs: Outputs) -> Tensor:
    """The mean of a function of the outputs, summed over the scales."""
    return _sum(function(_wide(d)).mean() for d in _each(outputs))


def _sum(values: Iterable[Tensor]) -> Tensor:
    return functools.reduce(operator.add, values)


def _each(outputs: Outputs) -> Sequence[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else outputs


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values

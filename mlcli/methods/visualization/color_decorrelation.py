"""The colors of the images that a model was trained on, and coordinates in which they vary independently."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlcli.models.registry import Model

# The square root of the covariance of ImageNet's colors, in steps of falling variance (Olah et al. 2017, in Lucid).
IMAGENET = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
# Amplitude spectra of photographs fall with frequency as f^-a; small images that show one thing are the smoother.
EXPONENTS = (0.8, 1.0, 1.2, 1.4, 1.6, 1.8)
FIELD = 32  # pixels, the period of the spectrum
WORST_FIT = 0.5  # median relative error of variances above which they are not those of images


@dataclass(frozen=True)
class Colors:
    """Decorrelated color: x -> sigmoid(mixing x + logit(mean)), (N, C, H, W) of any numbers to images in (0, 1).

    mean: (C,) in (0, 1). mixing: (C, C), a square root of the colors' covariance divided by the largest norm of a
    column. So a step along any coordinate is as probable a change of color as along another.
    """

    mean: Tensor
    mixing: Tensor

    def images(self, x: Tensor) -> Tensor:
        mean, mixing = self.mean.to(x.device), self.mixing.to(x.device)
        return torch.sigmoid(torch.einsum("cd,ndhw->nchw", mixing, x) + mean.logit()[:, None, None])

    def coordinates(self, images: Tensor) -> Tensor:
        """The inverse of `images`; black and white are taken for what is half a level of 8 bits from them."""
        logits = images.clamp(1 / 510, 1 - 1 / 510).logit() - self.mean.logit()[:, None, None]
        return torch.einsum("cd,ndhw->nchw", self.mixing.inverse(), logits)


def of_training_data(model: Model) -> Colors:
    """The colors of the images that the model was trained on.

    Of torchvision's models, ImageNet's. A model that this tool trained carries them itself: the batch norm behind its
    first convolution holds the mean and the variance of each kernel's answer over the training images. The mean is
    linear in the mean color. The variance of kernel k is

        var_k = sum over colors c, d of C[c, d] * (sum over pixels p, q of w_k[c, p] S[p - q] w_k[d, q])

    if color and place are independent (C the covariance of colors, S the autocorrelation of photographs), so C is
    the answer to a problem of least squares with six unknowns. Where there is no such batch norm, or its variances do
    not fit (a network that was never trained), ImageNet's stand in; gray images have one color.
    """
    channels = model.preprocessing.channels
    measured = None if model.preprocessing.resize else _first_statistics(model)
    mean, covariance = measured or (None, None)
    if mean is None:
        mean = torch.full((channels,), 0.5)
    if channels == 1:
        return Colors(mean, torch.ones(1, 1))
    if covariance is None:
        return Colors(mean, _scaled(torch.tensor(IMAGENET)))
    values, vectors = torch.linalg.eigh(covariance)
    # Which way an eigenvector points is left to the library; brightness is to rise along the first.
    vectors = vectors * torch.where(vectors.sum(0) < 0, -1, 1)
    return Colors(mean, _scaled((vectors * values.sqrt()).flip(1)))


def _scaled(root: Tensor) -> Tensor:
    return root / root.norm(dim=0).max()


def _first_statistics(model: Model) -> tuple[Tensor, Tensor] | None:
    """(mean color (C,), covariance (C, C) up to a factor) by the first batch norm; None where it does not tell."""
    pair = _first_convolution(model.network, model.preprocessing.channels)
    if pair is None:
        return None
    convolution, norm = pair
    weight = convolution.weight.detach().double().cpu().flatten(2)  # K, C, places
    mean, variance = (t.double().cpu() for t in (norm.running_mean, norm.running_var))
    if convolution.bias is not None:
        mean = mean - convolution.bias.detach().double().cpu()
    center, spread = (torch.tensor(v, dtype=torch.float64) for v in (model.preprocessing.mean, model.preprocessing.std))
    color = torch.linalg.lstsq(weight.sum(2), mean[:, None]).solution[:, 0] * spread + center
    first, second = torch.triu_indices(len(spread), len(spread))
    fits = []
    for exponent in EXPONENTS:
        power = torch.einsum("kcp,pq,kdq->kcd", weight, _autocorrelation(convolution, exponent), weight)
        terms = power[:, first, second] * torch.where(first == second, 1.0, 2.0) / variance[:, None]
        # Relative errors, lest the few kernels that answer to plain brightness decide alone
        solution = torch.linalg.lstsq(terms, torch.ones(len(terms), 1, dtype=torch.float64)).solution[:, 0]
        covariance = torch.zeros(len(spread), len(spread), dtype=torch.float64)
        covariance[first, second] = covariance[second, first] = solution
        error = (terms @ solution - 1).abs().median().item()
        fits.append((error, covariance * spread[:, None] * spread))
    error, covariance = min(fits, key=lambda fit: fit[0])
    eigenvalues = torch.linalg.eigvalsh(covariance)
    if not (error < WORST_FIT and eigenvalues.min() > 1e-4 * eigenvalues.max()):
        return None
    return color.clamp(0.05, 0.95).float(), covariance.float()


def _first_convolution(network: nn.Module, channels: int) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """The convolution of the images themselves and the batch norm right behind it, if the network begins so."""
    leaves = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))][:2]
    kinds = tuple(type(m) for m in leaves)
    if kinds != (nn.Conv2d, nn.BatchNorm2d) or leaves[0].in_channels != channels or leaves[0].groups != 1:
        return None
    unknowns = channels * (channels + 1) // 2
    norm = leaves[1]
    # As initialized, a norm holds variances of 1
    tells = norm.running_var is not None and (norm.running_var != 1).any() and len(leaves[0].weight) >= 2 * unknowns
    return (leaves[0], norm) if tells else None


def _autocorrelation(convolution: nn.Conv2d, exponent: float) -> Tensor:
    """(places, places): how alike two pixels under the kernel are in images whose spectrum falls as f^-exponent."""
    f = torch.fft.fftfreq(FIELD, dtype=torch.float64)
    radius = torch.hypot(f[:, None], f).clamp_min(1 / FIELD)
    like = torch.fft.ifft2(radius ** (-2 * exponent)).real
    height, width = convolution.kernel_size
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    down, right = rows[:, None] - rows, columns[:, None] - columns
    dy, dx = convolution.dilation
    return (like / like[0, 0])[down * dy % FIELD, right * dx % FIELD]

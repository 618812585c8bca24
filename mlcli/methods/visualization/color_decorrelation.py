"""Color statistics of the images that a model was trained on, and coordinates in which colors are uncorrelated."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlcli.models.model import Model

# Square root of the covariance of ImageNet's colors, columns in order of decreasing variance (Olah et al. 2017, Lucid).
IMAGENET = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
# Amplitude spectra of photographs fall with frequency as f^-a; a is larger for small images of a single object.
EXPONENTS = (0.8, 1.0, 1.2, 1.4, 1.6, 1.8)
FIELD = 32  # period of the spectrum in pixels
WORST_FIT = 0.5  # median relative error of the variances above which the fit is rejected


@dataclass(frozen=True)
class Colors:
    """Decorrelated color: images in (0, 1) are sigmoid(mixing x + logit(mean)) of real coordinates x (N, C, H, W).

    mean: (C,) in (0, 1). mixing: (C, C), a square root of the covariance of colors, divided by the largest norm of its
    columns. So steps of equal length along any coordinate are equally probable changes of color.
    """

    mean: Tensor
    mixing: Tensor

    def images(self, x: Tensor) -> Tensor:
        """The images in (0, 1) of coordinates x (N, C, H, W)."""
        mean, mixing = self.mean.to(x.device), self.mixing.to(x.device)
        return torch.sigmoid(torch.einsum("cd,ndhw->nchw", mixing, x) + mean.logit()[:, None, None])

    def coordinates(self, images: Tensor) -> Tensor:
        """The inverse of `images`. Values are clamped to half a level of 8 bits from black and white."""
        logits = images.clamp(1 / 510, 1 - 1 / 510).logit() - self.mean.logit()[:, None, None]
        return torch.einsum("cd,ndhw->nchw", self.mixing.inverse(), logits)


def of_training_data(model: Model) -> Colors:
    """The colors of the images that the model was trained on.

    For torchvision's models these are ImageNet's. A model that this tool trained carries them itself: the batch norm
    after its first convolution holds the mean and the variance of each kernel's response to the training images. The
    mean is linear in the mean color. If color and position are independent, the variance of kernel k is

        var_k = sum over colors c, d of C[c, d] * (sum over pixels p, q of w_k[c, p] S[p - q] w_k[d, q]),

    where C is the covariance of colors and S the autocorrelation of photographs. So C is the solution of a least
    squares problem with six unknowns. ImageNet's colors are used where there is no such batch norm, or where its
    variances do not fit, as in an untrained network. Gray images have one color.
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
    # The sign of an eigenvector is arbitrary; brightness should rise along the first.
    vectors = vectors * torch.where(vectors.sum(0) < 0, -1, 1)
    return Colors(mean, _scaled((vectors * values.sqrt()).flip(1)))


def _scaled(root: Tensor) -> Tensor:
    return root / root.norm(dim=0).max()


def _first_statistics(model: Model) -> tuple[Tensor, Tensor] | None:
    """(mean color (C,), covariance (C, C) up to a factor) from the first batch norm; None where they do not follow."""
    pair = _first_convolution(model.network, model.preprocessing.channels)
    if pair is None:
        return None
    convolution, norm = pair
    if norm.running_mean is None or norm.running_var is None:
        return None
    weight = convolution.weight.detach().double().cpu().flatten(2)  # (K, C, pixels)
    mean, variance = norm.running_mean.double().cpu(), norm.running_var.double().cpu()
    if convolution.bias is not None:
        mean = mean - convolution.bias.detach().double().cpu()
    center, spread = (torch.tensor(v, dtype=torch.float64) for v in (model.preprocessing.mean, model.preprocessing.std))
    color = torch.linalg.lstsq(weight.sum(2), mean[:, None]).solution[:, 0] * spread + center
    first, second = torch.triu_indices(len(spread), len(spread))
    fits = []
    for exponent in EXPONENTS:
        power = torch.einsum("kcp,pq,kdq->kcd", weight, _autocorrelation(convolution, exponent), weight)
        terms = power[:, first, second] * torch.where(first == second, 1.0, 2.0) / variance[:, None]
        # Relative errors, so that the few kernels that respond to brightness do not decide alone
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
    """The convolution of the images and the batch norm right after it; None if the network does not begin so."""
    leaves = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))][:2]
    if tuple(type(m) for m in leaves) != (nn.Conv2d, nn.BatchNorm2d):
        return None
    convolution, norm = leaves
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    if convolution.in_channels != channels or convolution.groups != 1 or norm.running_var is None:
        return None
    unknowns = channels * (channels + 1) // 2
    trained = bool((norm.running_var != 1).any())  # a new batch norm has variances of 1
    return (convolution, norm) if trained and len(convolution.weight) >= 2 * unknowns else None


def _autocorrelation(convolution: nn.Conv2d, exponent: float) -> Tensor:
    """Correlation of each two pixels under the kernel, (pixels, pixels), if spectra fall as f^-exponent."""
    f = torch.fft.fftfreq(FIELD, dtype=torch.float64)
    radius = torch.hypot(f[:, None], f).clamp_min(1 / FIELD)
    covariance = torch.fft.ifft2(radius ** (-2 * exponent)).real
    height, width = convolution.kernel_size
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    down, right = rows[:, None] - rows, columns[:, None] - columns
    dy, dx = convolution.dilation
    return (covariance / covariance[0, 0])[down * dy % FIELD, right * dx % FIELD]

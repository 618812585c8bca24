"""Distances between two sets of images, in the features of a classifier.

Fréchet distance (FID, Heusel et al. 2017) and kernel distance (KID, Binkowski et al. 2018). The papers use the last
hidden layer of an Inception network trained on ImageNet; here it is that of any classifier, to be reported with every
figure, since distances in different features, or between different numbers of images, cannot be compared.
"""

import functools
import operator

import torch
from torch import Tensor

from mlcli.models.model import Model
from mlcli.models.structure.features import Activations, hidden, vectors
from mlcli.runtime.device import Runtime

ROWS = 1000  # rows of the kernel matrix in memory at a time


class Features:
    """The last hidden layer of a model as a function of images; `layer` is its address."""

    def __init__(self, model: Model, runtime: Runtime) -> None:
        self.model, self.runtime = model, runtime
        self._layer = hidden(model)
        self.layer = self._layer.address
        self._activations = Activations(model, [self.layer])

    @torch.inference_mode()
    def __call__(self, images: Tensor, batch_size: int = 100) -> Tensor:
        """(N, C, H, W), C 1 or 3, uint8 -> (N, D) float32 on the CPU.

        Images are preprocessed as the model requires. Raises WeightsError where a feature is not finite.
        """
        rows = []
        for batch in images.split(batch_size):
            prepared = self.model.prepared(batch).to(self.runtime.device)
            with self.runtime.autocast():
                values = self._activations(prepared)[self.layer]
            rows.append(self.model.finite(vectors(values.float(), self._layer).cpu(), self.runtime))
        return torch.cat(rows)


def frechet(x: Tensor, y: Tensor) -> float:
    """|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)) of features (N, D) and (M, D) (Heusel et al. 2017, eq. 6).

    The squared Wasserstein distance between two Gaussians with the means m and covariances C of the features. The
    estimate is biased: the fewer the images, the larger. (C_x C_y)^(1/2) has the same trace as
    (C_x^(1/2) C_y C_x^(1/2))^(1/2), which is symmetric.
    """
    (m_x, c_x), (m_y, c_y) = _moments(x), _moments(y)
    values, axes = torch.linalg.eigh(c_x)
    root = (axes * values.clamp_min(0).sqrt()) @ axes.T
    product = torch.linalg.eigvalsh(root @ c_y @ root).clamp_min(0)
    return ((m_x - m_y).square().sum() + c_x.trace() + c_y.trace() - 2 * product.sqrt().sum()).item()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) in float64."""
    return x.double().mean(0), torch.cov(x.double().T).reshape(x.shape[1], x.shape[1])


def kernel(x: Tensor, y: Tensor) -> float:
    """Squared maximum mean discrepancy of features (N, D), (M, D) with k(a, b) = (a.b / D + 1)^3, without bias.

    Gretton et al. 2012, eq. 3, with the kernel of Binkowski et al. 2018. An unbiased estimate, which may be below 0 and
    serves for few images as well. The paper averages over subsets; here all images are used at once.
    """
    n, m = len(x), len(y)
    within_x = (_sum(x, x) - _kernel(x, x, paired=True).sum()) / (n * (n - 1))
    within_y = (_sum(y, y) - _kernel(y, y, paired=True).sum()) / (m * (m - 1))
    return (within_x + within_y - 2 * _sum(x, y) / (n * m)).item()


def _kernel(x: Tensor, y: Tensor, paired: bool = False) -> Tensor:
    x, y = x.double(), y.double()
    return (((x * y).sum(1) if paired else x @ y.T) / x.shape[1] + 1) ** 3


def _sum(x: Tensor, y: Tensor) -> Tensor:
    """The sum of the whole kernel matrix, a few rows at a time."""
    return functools.reduce(operator.add, (_kernel(rows, y).sum() for rows in x.split(ROWS)))

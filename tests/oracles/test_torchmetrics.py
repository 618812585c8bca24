"""Fréchet and kernel distance beside torchmetrics', which computes them of any features."""

import pytest
import torch
from torchmetrics.image import fid, kid

from mlcli.methods.generation.fid_kid import frechet, kernel


@pytest.fixture
def features():
    random = torch.Generator().manual_seed(0)
    return torch.randn(120, 16, generator=random), 1.2 * torch.randn(120, 16, generator=random) + 0.3


class AsTheyAre(torch.nn.Module):
    """Takes the pixels of an image for its features."""

    num_features = 16

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def of(metric, x, y) -> float:
    metric.set_dtype(torch.float64)
    for images, real in ((x, True), (y, False)):
        metric.update(images.double().view(-1, 1, 4, 4), real=real)
    result = metric.compute()
    return (result[0] if isinstance(result, tuple) else result).item()


def test_the_frechet_distance(features):
    expected = of(fid.FrechetInceptionDistance(AsTheyAre(), normalize=True, input_img_size=(1, 4, 4)), *features)
    assert frechet(*features) == pytest.approx(expected, rel=1e-5)


def test_the_kernel_distance(features):
    """Over one subset that has all images, as ours; the mean over subsets estimates the same."""
    expected = of(kid.KernelInceptionDistance(AsTheyAre(), subsets=1, subset_size=120, normalize=True), *features)
    assert kernel(*features) == pytest.approx(expected, rel=1e-5)

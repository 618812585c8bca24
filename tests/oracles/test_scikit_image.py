"""What stays our own beside scikit-image's: the Lab space, Otsu's threshold, edges by Canny."""

import numpy as np
import pytest
import torch
from skimage import color, feature, filters

from mlcli.methods.synthesis.paired_degradations import edges, lab, otsu


def test_lab():
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    expected = color.rgb2lab(image.permute(1, 2, 0).double().numpy())
    assert np.allclose(lab(image).permute(1, 2, 0).numpy(), expected, atol=0.05)


def test_otsus_threshold():
    random = torch.Generator().manual_seed(0)
    values = torch.cat([torch.randn(400, generator=random), torch.randn(300, generator=random) + 5])
    width = (values.max() - values.min()).item() / 256
    assert otsu(values) == pytest.approx(filters.threshold_otsu(values.numpy(), 256), abs=width)


def test_edges_are_where_canny_finds_them():
    """Of a disk and a square on gray: within a pixel of each other, both ways."""
    down, right = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    image = torch.full((96, 96), 0.5)
    image[(down - 34) ** 2 + (right - 30) ** 2 < 400] = 1
    image[50:85, 55:88] = 0
    ours = edges(image.expand(3, -1, -1), 1.5)[0].numpy() == 0
    theirs = feature.canny(image.numpy(), sigma=1.5)
    assert 100 < ours.sum() < 400
    for found, near in ((ours, theirs), (theirs, ours)):
        within = np.pad(near, 1)
        around = np.stack([within[1 + d : 97 + d, 1 + r : 97 + r] for d in (-1, 0, 1) for r in (-1, 0, 1)]).any(0)
        assert around[found].mean() > 0.98

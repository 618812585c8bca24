"""Initial weights: their spread by kind."""

import math

import pytest
import torch
from torch import nn

from mlcli.networks.initialization import INITIALIZATIONS, initialize


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.ConvTranspose2d(128, 64, 4), nn.Conv2d(64, 1, 1)
    )


@pytest.mark.parametrize("kind", sorted(INITIALIZATIONS))
def test_spread(kind):
    torch.manual_seed(0)
    made = initialize(network(), kind, 0.02)
    expected = {
        "normal": 0.02,
        "xavier": 0.02 * math.sqrt(2 / (64 * 9 + 128 * 9)),
        "kaiming": math.sqrt(2 / (64 * 9)),
        "orthogonal": 0.02 / math.sqrt(64 * 9),  # rows of norm 0.02
    }[kind]
    assert made[0].weight.std().item() == pytest.approx(expected, rel=0.05)
    assert not made[0].bias.any() and not made[1].bias.any()
    assert made[1].weight.mean().item() == pytest.approx(1, abs=0.01)
    assert made[1].weight.std().item() == pytest.approx(0.02, rel=0.3)
    if kind == "orthogonal":
        rows = made[0].weight.detach().flatten(1) / 0.02
        assert torch.allclose(rows @ rows.T, torch.eye(128), atol=1e-4)

"""Patch discriminators: parameters, maps, receptive fields measured by gradients, scales."""

import pytest
import torch
import torch.nn.functional as F

from mlcli.networks.patchgan import MultiScale, PatchGAN


def field(network, side: int) -> tuple[int, tuple[int, ...]]:
    """(pixels in a row that the middle logit depends on, shape of the map)."""
    x = torch.randn(1, 3, side, side, requires_grad=True)
    logits = network(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
    return int(rows.max() - rows.min()) + 1, tuple(logits.shape)


def test_the_published_patchgan():
    torch.manual_seed(0)
    assert field(PatchGAN(norm="none", filters=4), 256) == (70, (1, 1, 30, 30))
    with torch.device("meta"):
        network = PatchGAN(6)
    kernels = 16 * (6 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    assert sum(p.numel() for p in network.parameters()) == kernels + 64 + 2 * (128 + 256 + 512) + 1 == 2_768_705


@pytest.mark.parametrize("layers, pixels", [(0, 1), (1, 16), (2, 34), (4, 142)])
def test_receptive_fields_of_other_depths(layers, pixels):
    """As the paper's appendix 6.1.2 names them: PixelGAN 1, and 16 x 16."""
    torch.manual_seed(0)
    assert field(PatchGAN(norm="none", filters=2, layers=layers), 256)[0] == pixels


def test_features_end_in_the_logits():
    torch.manual_seed(0)
    network, x = PatchGAN(filters=4, norm="instance"), torch.randn(2, 3, 64, 64)
    maps = network.features(x)
    assert [each.shape[1] for each in maps] == [4, 8, 16, 32, 1]
    assert torch.equal(maps[-1], network(x)) and (maps[0] < 0).any(), "leaky"


def test_each_scale_sees_half_of_the_one_before():
    torch.manual_seed(0)
    network = MultiScale([PatchGAN(filters=2, layers=1, norm="none") for _ in range(3)])
    x = torch.randn(1, 3, 64, 64)
    outputs = network(x)
    half = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    assert torch.equal(outputs[0], network.scales[0](x)) and torch.equal(outputs[1], network.scales[1](half))
    assert [each.shape[-1] for each in outputs] == [30, 14, 6]
    assert torch.allclose(F.avg_pool2d(torch.ones(1, 1, 8, 8), 3, 2, 1, count_include_pad=False), torch.ones(1)), (
        "no rim"
    )

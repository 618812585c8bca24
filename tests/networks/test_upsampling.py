"""Doubling: sizes, and the checkerboard that only transposed convolution makes."""

import pytest
import torch

from mlcli.networks.upsampling import upsample_by_2


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("kind", ["transposed", "resize"])
def test_the_side_doubles(kind, kernel):
    layer = upsample_by_2(kind, 4, 2, kernel, bias=True)
    assert layer(torch.randn(1, 4, 5, 7)).shape == (1, 2, 10, 14)


def test_resizing_makes_no_checkerboard_where_transposed_convolution_does():
    for kind, flat in (("transposed", False), ("resize", True)):
        layer = upsample_by_2(kind, 1, 1, 3, bias=False)
        for weights in layer.parameters():
            weights.data.fill_(1.0)
        inner = layer(torch.ones(1, 1, 8, 8))[0, 0, 4:12, 4:12]
        assert (inner.std() < 1e-6) == flat


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="pixelshuffle"):
        upsample_by_2("pixelshuffle", 1, 1, 3, bias=False)

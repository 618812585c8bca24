"""U-Net: its size, its connections across, the depth that fits an image."""

import pytest
import torch

from mlcli.networks.unet import UNet, fitting_depth


def test_the_published_network_has_54_million_parameters_and_keeps_the_size():
    with torch.device("meta"):
        network = UNet(depth=8, filters=64)
        made = network(torch.empty(2, 3, 256, 256))
    # 4 x 4 kernels: down 3-64-128-256-512-512-512-512-512, up 512-512-512-512-256-128-64-3 on maps twice as wide but
    # for the first, two numbers for each batch norm, biases where there is none.
    down = [3, 64, 128, 256, 512, 512, 512, 512, 512]
    up = [(512, 512), (1024, 512), (1024, 512), (1024, 512), (1024, 256), (512, 128), (256, 64), (128, 3)]
    kernels = 16 * (sum(a * b for a, b in zip(down, down[1:], strict=False)) + sum(a * b for a, b in up))
    norms = 2 * (sum(down[2:8]) + sum(b for _, b in up[:-1]))
    assert sum(p.numel() for p in network.parameters()) == kernels + norms + 64 + 512 + 3 == 54_414_531
    assert made.shape == (2, 3, 256, 256)


def test_dropout_is_in_the_three_innermost_steps_up():
    network = UNet(depth=8, filters=4)
    noisy = [any(isinstance(m, torch.nn.Dropout) for m in up.modules()) for up in network.ups]
    assert noisy == [True, True, True, False, False, False, False, False]
    assert not any(isinstance(m, torch.nn.Dropout) for m in UNet(depth=4, filters=4).modules()), (
        "no step of 8 x filters"
    )


def test_pixels_go_across_unharmed():
    """With all but the outermost level cut off, output pixels still depend on the input around them, and only there."""
    torch.manual_seed(0)
    network = UNet(1, 1, depth=3, filters=4, norm="none", dropout=0)
    for up in list(network.ups)[:-1]:
        for weights in up.parameters():
            weights.data.zero_()
    x = torch.zeros(1, 1, 16, 16)
    changed_input = x.clone()
    changed_input[0, 0, 8, 8] = 1
    changed = (network(changed_input) - network(x)).abs()[0, 0] > 1e-7
    assert changed[8, 8] and not changed[:4].any() and not changed[:, 13:].any()


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_rectangles_and_other_channels(upsampling):
    network = UNet(5, 1, depth=3, filters=4, upsampling=upsampling)
    made = network(torch.randn(2, 5, 16, 40))
    assert made.shape == (2, 1, 16, 40) and made.abs().max() <= 1


@pytest.mark.parametrize(
    "height, width, depth",
    [(256, 256, 8), (128, 128, 7), (512, 512, 8), (32, 32, 5), (256, 64, 6), (96, 96, 5), (7, 8, 0)],
)
def test_the_depth_that_fits(height, width, depth):
    assert fitting_depth(height, width) == depth

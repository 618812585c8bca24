"""Colors beside a luma that is known."""

import torch
from torch import nn

from mlcli.imaging import image_io
from mlcli.networks.luminance import KeepLuminance


class Given(nn.Module):
    """Chroma that was given."""

    depth = 3

    def __init__(self, chroma):
        super().__init__()
        self.values = chroma

    def forward(self, x):
        return self.values


def test_the_luma_is_that_of_the_gray_image_and_the_chroma_is_bt601():
    image = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    luma = image_io.to_gray(image)
    # Cb and Cr by their definition: the scaled differences of blue and red from the luma, here in [-1, 1]
    blue, red = (image[:, 2] - luma[:, 0]) / 1.772 * 2, (image[:, 0] - luma[:, 0]) / 1.402 * 2
    network = KeepLuminance(Given(torch.stack([blue, red], 1)))
    assert network.depth == 3
    torch.testing.assert_close(network(luma * 2 - 1), image * 2 - 1)
    less = KeepLuminance(Given(0.3 * torch.stack([blue, red], 1)))(luma * 2 - 1)
    torch.testing.assert_close(image_io.to_gray(less * 0.5 + 0.5), luma)


def test_colors_that_cannot_be_are_cut_off():
    made = KeepLuminance(Given(torch.ones(1, 2, 4, 4)))(torch.ones(1, 1, 4, 4))
    assert made.max() == 1 and made.min() >= -1

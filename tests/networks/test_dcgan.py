"""The networks of the GAN: sizes, counts, conditioning and spectral norm, by hand."""

import pytest
import torch

from mlcli.networks.dcgan import ConditionalBatchNorm2d, Discriminator, Generator


@pytest.mark.parametrize("size, channels", [(8, 3), (16, 1), (28, 1), (32, 3), (50, 3), (64, 1), (128, 3)])
@pytest.mark.parametrize("classes", [0, 5])
def test_images_of_the_size_asked_for_and_one_logit_for_each(size, channels, classes):
    torch.manual_seed(0)
    labels = torch.tensor([0, 3])
    images = Generator(size, channels, 6, 2, classes)(torch.randn(2, 6), labels)
    assert images.shape == (2, channels, size, size) and images.abs().max() <= 1
    assert Discriminator(size, channels, 2, classes)(images, labels).shape == (2,)


def test_parameters_are_those_of_the_table():
    """Miyato et al. 2018, table 3, at 32 x 32."""
    count = sum(p.numel() for p in Generator(32, 3, 128, 64).parameters())
    linear = 128 * 8192 + 8192
    doublings = 16 * (512 * 256 + 256 * 128 + 128 * 64)
    assert count == linear + doublings + 2 * (512 + 256 + 128 + 64) + 9 * 64 * 3 + 3
    count = sum(p.numel() for p in Discriminator(32, 3, 64).parameters())
    kernels = 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 16 * (64 * 64 + 128 * 128 + 256 * 256)
    assert count == kernels + 2 * (64 + 128 + 256) + 512 + 512 * 16 + 1


def test_conditional_batch_norm_by_hand():
    torch.manual_seed(0)
    norm = ConditionalBatchNorm2d(2, classes=3).double()
    torch.nn.init.normal_(norm.classes.weight)
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    labels = torch.tensor([0, 2, 2, 1])
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    scale, shift = norm.classes.weight[labels].view(4, 2, 2, 1, 1).unbind(1)
    torch.testing.assert_close(norm(x, labels), plain * (1 + scale) + shift)


def test_the_projection_by_hand():
    """f(x, y) = w . h + b + v_y . sum of h over the positions."""
    torch.manual_seed(0)
    network = Discriminator(8, 1, 2, classes=3, spectral=False).double().eval()
    images, labels = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([2, 0, 1, 2])
    h = network.layers(images)  # (4, 4, 4, 4)
    weight, bias = network.linear.weight.view(4, 4, 4), network.linear.bias
    expected = [
        (weight * maps).sum() + bias[0] + (network.classes.weight[label] * maps.sum((1, 2))).sum()
        for maps, label in zip(h, labels, strict=True)
    ]
    torch.testing.assert_close(network(images, labels), torch.stack(expected))


def test_spectral_norm_bounds_every_weight():
    torch.manual_seed(0)
    network = Discriminator(16, 3, 4, classes=7).train()
    for _ in range(30):  # a step of the power iteration each
        network(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
    network.eval()
    modules = [m for m in network.modules() if hasattr(m, "parametrizations")]
    assert len(modules) == 5 + 1 + 1  # 3 x 3, twice 4 x 4 and 3 x 3; linear, classes
    for module in modules:
        largest = torch.linalg.matrix_norm(module.weight.flatten(1), 2).item()
        assert largest == pytest.approx(1, rel=0.02)


def test_the_discriminator_sees_each_image_alone():
    """What the gradient penalty asks for."""
    torch.manual_seed(0)
    network = Discriminator(16, 1, 4, spectral=False).train()
    images = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(network(images)[:1], network(images[:1]))

import pytest
import torch

from mlcli.networks.smallnet import SmallNet


@pytest.mark.parametrize("size, channels", [(16, 1), (29, 3), (48, 1)])
def test_images_of_any_size_become_vectors(size, channels):
    network = SmallNet(7, size, channels)
    assert network(torch.rand(3, channels, size, size)).shape == (3, 7)


def test_the_position_of_an_object_matters():
    torch.manual_seed(0)
    network = SmallNet(8, 32).eval()
    image = torch.zeros(2, 1, 32, 32)
    image[0, :, 4:8, 4:8] = image[1, :, 20:24, 20:24] = 1
    one, other = network(image)
    assert (one - other).norm() > 0.1 * one.norm()


def test_outputs_have_unit_variance_in_training():
    torch.manual_seed(0)
    outputs = SmallNet(6, 16).train()(torch.rand(64, 1, 16, 16))
    assert outputs.mean(0).abs().max() < 1e-4 and outputs.var(0, correction=0).sub(1).abs().max() < 0.05

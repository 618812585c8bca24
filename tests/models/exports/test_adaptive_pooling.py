"""Against torch's own pooling, in the network and in an exported file."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlcli.errors import MlcliError
from mlcli.models.exports import onnx_file
from mlcli.models.exports.adaptive_pooling import PoolingByProducts


@pytest.mark.parametrize("sides", [(3, 3), (7, 5), (2, 9), (8, 6), (1, 1)])
@pytest.mark.parametrize("size", [2, (3, 7), (None, 2), (1, 1)])
def test_it_is_the_same_pooling(sides, size):
    images = torch.randn(2, 3, *sides, dtype=torch.float64)
    with PoolingByProducts():
        found = F.adaptive_avg_pool2d(images, size)
    torch.testing.assert_close(found, F.adaptive_avg_pool2d(images, size))


def encoded(network):
    return onnx_file.encoded(network, {"x": torch.zeros(2, 3, 10, 10)}, ["y"], {"x": {0: "n"}, "y": {0: "n"}})


def test_windows_that_differ_are_exported():
    network = nn.Sequential(nn.Conv2d(3, 4, 4), nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(24, 5)).eval()
    run = onnx_file.OnnxRunner(encoded(network))
    images = torch.randn(3, 3, 10, 10)
    torch.testing.assert_close(run(images)[0], network(images), atol=1e-6, rtol=1e-5)


def test_what_cannot_be_exported_is_said_in_one_line(capfd):
    with pytest.raises(MlcliError, match="ONNX has no form for this network") as error:
        encoded(nn.Sequential(nn.Conv2d(3, 4, 4), nn.AdaptiveMaxPool2d(3)))
    assert "\n" not in str(error.value) and capfd.readouterr() == ("", "")

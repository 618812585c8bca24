"""Receptive fields against what gradients reach: operations one by one, and architectures of timm."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.models import registry
from mlcli.models.model import Model
from mlcli.models.structure.graph import WHOLE, graph_of
from tests.benchmarks.timm_architectures import compare_fields

SIDE = 24
CONV = nn.Conv2d(3, 3, 3, 2, 1)


class Then(nn.Module):
    """A convolution, an operation, and a window of 3 x 3 over what it gives."""

    def __init__(self, operation):
        super().__init__()
        self.conv, self.operation = CONV, operation

    def forward(self, x):
        return self.operation(self.conv(x)).abs()


def last(operation, side: int = SIDE):
    network = Then(operation).eval()
    model = Model("own", network, (), Preprocessing(crop=side), "own")
    return network.double(), graph_of(model).layers[-1]


def seen(network, row: int, column: int, channels_last: bool, side: int = SIDE):
    """(left, top, right, bottom) of the pixels that a unit of the last layer sees."""
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    values = network(image)[0]
    values = values[row, column] if channels_last else values[:, row, column]
    (gradient,) = torch.autograd.grad((values * torch.rand_like(values)).sum(), image)
    pixels = gradient[0].abs().amax(0).nonzero()
    (top, left), (bottom, right) = pixels.amin(0).tolist(), (pixels.amax(0) + 1).tolist()
    return left, top, right, bottom


WINDOWS = {
    "convolution": lambda x: F.conv2d(x, CONV.weight, CONV.bias, 1, (1, 1)),
    "dilated": lambda x: F.conv2d(x, CONV.weight, padding="same", dilation=3),
    "average": lambda x: F.avg_pool2d(x, 3, 2),
    "pad": lambda x: F.pad(x, (1, 0, 2, 0))[:, :, 2:, 1:],
    "slice": lambda x: x[:, :, 1::2, 1::2],
    "ellipsis": lambda x: x[..., 2:, :],
    "unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "channels last": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (3,)),
    "and back": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (3,)).permute(0, 3, 1, 2),
    "groups": lambda x: x.view(1, 3, 1, 12, 12).mean(2),
    "softmax of channels": lambda x: x.softmax(1),
    "normalized": lambda x: F.normalize(x, dim=1),
    "parts": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_operations_on_a_window(name):
    network, layer = last(WINDOWS[name])
    rows, columns = layer.shape[:2] if layer.channels_last else layer.shape[1:]
    for row, column in ((0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)):
        assert layer.box(row, column, SIDE, SIDE) == seen(network, row, column, layer.channels_last)
    assert WHOLE not in layer.field and layer.is_map != layer.channels_last


EVERYWHERE = {
    "softmax of rows": lambda x: x.softmax(2),
    "norm of the map": lambda x: F.group_norm(x, 1),
    "rolled": lambda x: x.roll(1, 2),
    "flipped": lambda x: x.flip(3),
    "rows with rows": lambda x: x @ x,
    "linear over columns": lambda x: F.linear(x, torch.eye(12, dtype=x.dtype)),
    "scaled by means": lambda x: x * x.mean((2, 3), keepdim=True),
    "tokens": lambda x: x.flatten(2).transpose(1, 2),
    "transposed": lambda x: x.transpose(2, 3),
    "windows": lambda x: x.view(1, 3, 2, 6, 2, 6).permute(0, 2, 4, 1, 3, 5).reshape(4, 3, 6, 6),
    "unknown": lambda x: torch.fft.fft2(x).real,
    "adaptive": lambda x: F.adaptive_max_pool2d(x, 5),
    "reflected border": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_operations_that_may_depend_on_the_whole_image(name):
    layers = [layer for layer in graph_of(Model("own", Then(EVERYWHERE[name]).eval(), (),
                                                      Preprocessing(crop=SIDE), "own")).layers]  # fmt: skip
    assert layers[0].receptive_field == 3
    layer = layers[-2] if name == "reflected border" else layers[-1]
    assert layer.receptive_field == WHOLE


def test_an_enlarged_map_sees_what_its_smaller_one_does():
    network, layer = last(lambda x: F.interpolate(x, scale_factor=2))
    for row in (0, 5, 6, 23):
        box, found = layer.box(row, row, SIDE, SIDE), seen(network, row, row, False)
        assert box[0] <= found[0] and found[2] <= box[2] and box[2] - box[0] <= found[2] - found[0] + 2
    assert layer.stride == 1


@pytest.mark.parametrize("side, top", [(24, 0), (25, -1)])
def test_padding_as_tensorflow_does_depends_on_the_size(side, top):
    model = registry.create("timm/tf_efficientnet_lite0", ("a", "b"), side)
    stem = next(layer for layer in graph_of(model).layers if layer.address == "conv_stem")
    assert stem.kind == "Conv2dSame" and (stem.field.top, stem.field.left, stem.stride) == (top, top, 2)


@pytest.mark.parametrize(
    "name",
    ["resnet", "efficientnet", "efficientnet_ln", "convnext", "byobnet", "nfnet", "mambaout", "maxvit", "coatnet"],
)
def test_architectures_of_timm(name):
    counts = compare_fields(f"timm/test_{name}")
    assert set(counts) == {"exact"} and counts["exact"] >= 9


def test_a_unit_of_the_border_alone_is_said_to_see_a_pixel():
    _, layer = last(lambda x: F.pad(x, (4, 4, 4, 4)))
    assert layer.box(0, 0, SIDE, SIDE) == (0, 0, 1, 1)
    assert layer.box(19, 19, SIDE, SIDE) == (SIDE - 1, SIDE - 1, SIDE, SIDE)

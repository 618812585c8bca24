import pytest
import torch

from mlcli.errors import UsageError
from mlcli.methods.painting.tiles import tiles
from mlcli.models import registry
from mlcli.models.structure import features


def open_model(name, addresses):
    torch.manual_seed(0)
    model = registry.load(name, untrained=True)
    return features.Activations(model, addresses), [features.resolve(model, address) for address in addresses]


@pytest.mark.parametrize("size, side", [((130, 97), 48), ((64, 200), 64), ((33, 65), 32)])
def test_each_pixel_is_of_one_tile(size, side):
    _, layers = open_model("cifarnet", ["conv5"])
    counts = torch.zeros(size)
    for tile in tiles(*size, layers, side):
        own = tile.own(tile.with_context(counts))
        assert max(own.shape) <= side + layers[0].stride
        own += 1
    assert (counts == 1).all()


@pytest.mark.parametrize(
    "name, addresses, size, side",
    [
        ("cifarnet", ["conv1", "conv3", "conv5"], (150, 121), 40),
        ("vgg11", ["conv1", "conv3"], (96, 130), 48),
        ("squeezenet1_1", ["features.1", "features.5"], (150, 131), 48),  # no padding; pools that round up
        ("resnet18", ["conv2", "layer2"], (160, 110), 64),  # strided convolutions
    ],
)
def test_the_maps_of_the_tiles_are_those_of_the_image(name, addresses, size, side):
    activations, layers = open_model(name, addresses)
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = activations(image)
        parts = tiles(*size, layers, side)
        assert len(parts) > 3
        for address, layer in zip(addresses, layers, strict=True):
            rows = {}
            for tile in parts:
                maps = tile.own(activations(tile.with_context(image))[address], round(layer.stride))
                rows.setdefault(tile.rows.start, []).append(maps)
            joined = torch.cat([torch.cat(row, 3) for row in rows.values()], 2)
            assert joined.shape == whole[address].shape
            torch.testing.assert_close(joined, whole[address], rtol=1e-4, atol=1e-4)


def test_a_small_image_is_one_tile_and_a_layer_that_sees_all_cannot_be_cut():
    _, layers = open_model("mobilenet_v3_small", ["features.4"])
    (tile,) = tiles(60, 64, layers, 64)
    assert tile.own(tile.with_context(torch.zeros(3, 60, 64))).shape == (3, 60, 64)
    with pytest.raises(UsageError, match="see the whole image"):
        tiles(60, 65, layers, 64)

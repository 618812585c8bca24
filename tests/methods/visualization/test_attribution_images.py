import numpy as np
import torch

from mlcli.methods.visualization import attribution_images
from mlcli.methods.visualization.attribution_images import Scaled


def test_values_are_scaled_by_the_largest():
    values = torch.zeros(10, 10)
    values[0, 0], values[5, 5] = -2, 4
    found = Scaled.of(values)
    assert found.signed and found.values.abs().max() == 1
    assert not Scaled.of(values.abs()).signed
    assert not Scaled.of(torch.zeros(4, 4)).values.any()
    assert Scaled.of(torch.ones(1, 1)).values.item() == 1


def test_overlays_color_what_is_important_and_leave_the_rest_gray():
    image = torch.full((3, 16, 16), 128, dtype=torch.uint8)
    importance = torch.zeros(16, 16)
    importance[:4], importance[12:] = 1, -1
    drawn = attribution_images.overlay(image, importance)
    assert drawn.shape == (3, 224, 224) and 0 <= drawn.min() and drawn.max() <= 1
    red, blue, rest = drawn[:, 5, 5], drawn[:, 220, 5], drawn[:, 112, 112]
    assert red[0] > red[2] and blue[2] > blue[0] and torch.allclose(rest, torch.full((3,), 128 / 255), atol=1e-3)
    gray = attribution_images.overlay(image[:1], importance)
    assert torch.allclose(gray, drawn)


def test_a_sheet_has_bars_of_both_kinds_of_colors():
    image, tile = torch.zeros(3, 16, 16), torch.rand(3, 224, 224)
    rows = [("cat", [(tile, "a"), (tile, "fails: sanity")]), ("dog", [(tile, ""), (tile, "")])]
    sizes = [
        attribution_images.sheet("title", image, ["one", "two"], rows, signed=signed, unsigned=True).size
        for signed in (False, True)
    ]
    assert sizes[0][0] == sizes[1][0] > 3 * 224 and sizes[1][1] > sizes[0][1] > 2 * 224
    assert np.asarray(attribution_images._ramp("inferno")).shape == (256, 3)

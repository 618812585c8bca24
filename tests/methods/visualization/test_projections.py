from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import ImageError
from mlcli.imaging import image_io
from mlcli.methods.visualization import top_patches
from mlcli.methods.visualization.projections import Projector, as_image
from mlcli.methods.visualization.top_patches import Patch
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime

RUNTIME = Runtime.choose("cpu", "fp32")
SIZE = 12
BOX = (0, 0, SIZE, SIZE)


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 6, 3, padding=1),
            relu1=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(2),
            second=nn.Conv2d(6, 5, 3, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            last=nn.Linear(5 * SIZE * SIZE // 4, 4),
        )
    )
    preprocessing = Preprocessing(crop=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Model("tiny", network.eval(), tuple("abcd"), preprocessing, "tiny").to(RUNTIME)


def patch(row, column, value=1.0, image=0):
    return Patch(image, value, (row, column), BOX, (SIZE, SIZE))


def images(count):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def back(model, image, unit, row, column, rule, sign=1.0):
    """The projection as Zeiler and Fergus write it: transposed convolutions and the positions that pooling chose."""
    network = model.network
    x = (image[None] - 0.5) / 0.25
    before = network.first(x)
    pooled, chosen = F.max_pool2d(before.relu(), 2, return_indices=True)
    value = torch.zeros_like(network.second(pooled))
    value[0, unit, row, column] = sign
    value = F.conv_transpose2d(value, network.second.weight, padding=1)
    value = F.max_unpool2d(value, chosen, 2)
    value = value.clamp_min(0) * (before > 0 if rule == "guided" else 1)
    return F.conv_transpose2d(value, network.first.weight, padding=1)[0] / 0.25


@pytest.mark.parametrize("rule", ["deconv", "guided"])
def test_they_are_those_of_the_paper(model, rule):
    given = images(3)
    asked = [(4, 1, 2), (0, 5, 5), (2, 0, 3)]
    patches = [patch(row, column) for _, row, column in asked]
    found = Projector(model, "conv2", rule, RUNTIME).gradients(given, [unit for unit, *_ in asked], patches)
    values = [model.network[:4]((given - 0.5) / 0.25)[number, *each].item() for number, each in enumerate(asked)]
    assert min(values) < 0 < max(values)
    for one, image, value, (unit, row, column) in zip(found, given, values, asked, strict=True):
        expected = back(model, image, unit, row, column, rule, 1.0 if value > 0 else -1.0)
        assert one.allclose(expected, atol=1e-6) and one.abs().sum() > 0


def test_they_are_zero_outside_the_receptive_field(model):
    projector = Projector(model, "conv2", "deconv", RUNTIME)
    (found,) = projector.gradients(images(1), [1], [patch(2, 4)])
    left, top, right, bottom = projector.layer.box(2, 4, SIZE, SIZE)
    assert found[:, top:bottom, left:right].abs().sum() > 0
    found[:, top:bottom, left:right] = 0
    assert not found.any()


def test_a_unit_of_a_vector_is_projected_to_the_whole_image(model):
    projector = Projector(model, "last", "guided", RUNTIME)
    found = projector.gradients((255 * images(2)).byte(), [3, 0], [patch(0, 0), patch(0, 0)])
    assert found.shape == (2, 3, SIZE, SIZE) and not found[0].allclose(found[1])


def test_tiles_match_those_of_the_patches(model, tmp_path):
    paths = []
    for number, side in enumerate((24, 24, 30)):
        paths.append(tmp_path / f"{number}.png")
        image_io.to_pillow(torch.rand(3, side, 40)).save(paths[-1])
    layer = Projector(model, "conv2", "guided", RUNTIME).layer
    patches = []
    for image, (row, column) in ((0, (3, 3)), (1, (0, 5)), (0, (5, 0)), (2, (1, 1))):
        box = model.preprocessing.source_box(layer.box(row, column, SIZE, SIZE), 24, 40)
        patches.append(Patch(image, 1.0, (row, column), box, (24, 40)))
    paths[1].unlink()
    found = Projector(model, "conv2", "guided", RUNTIME).tiles(paths, [0, 1, 2, 3], patches, 20)
    cut = top_patches.crops(paths, patches, 20)
    assert [getattr(t, "shape", None) for t in found] == [getattr(t, "shape", None) for t in cut]
    assert "1.png: no such file" in str(found[1]) and "has changed" in str(found[3])
    assert isinstance(found[1], ImageError) and found[0].dtype == torch.uint8
    # Most of the field of a unit is gray, where a projection is zero; the strongest is black or white
    assert found[0].min() == 0 or found[0].max() == 255
    assert Image.fromarray(found[0].permute(1, 2, 0).numpy()).size == (20, 20)


def test_zero_is_gray():
    projection = torch.zeros(3, 5, 5)
    assert as_image(projection).eq(0.5).all()
    projection[0, 2, 2], projection[1, 2, 2] = 4, -2
    drawn = as_image(projection)
    assert drawn[0, 2, 2] == 1 and drawn[1, 2, 2] < 0.3 and drawn[2].eq(0.5).all()

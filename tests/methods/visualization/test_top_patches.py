from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mlcli.data.preprocessing import Preprocessing
from mlcli.errors import ImageError, WeightsError
from mlcli.imaging import image_io, srgb
from mlcli.methods.visualization import top_patches
from mlcli.methods.visualization.top_patches import GROUPS, Patch, PreparedImage
from mlcli.models.model import Model
from mlcli.runtime.device import Runtime

RUNTIME = Runtime.choose("cpu", "fp32")
SIZE, HEIGHT, WIDTH = 12, 24, 40  # the square is 24 pixels from column 8 on, halved for the network


@pytest.fixture
def model():
    """Two convolutions of small whole numbers: with inputs of 0, 1/2 and 1 each sum is exact, and many are equal."""
    torch.manual_seed(0)
    network = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 6, 3, padding=1),
            relu1=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            second=nn.Conv2d(6, 5, 3, padding=1),
            relu2=nn.ReLU(inplace=True),
            flatten=nn.Flatten(),
            last=nn.Linear(5 * SIZE * SIZE // 4, 4),
        )
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape))
        network.second.bias[:] = torch.tensor([0.0, 400, -400, -30, -30])  # always on, never on
    preprocessing = Preprocessing(crop=SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Model("tiny", network.eval(), tuple("abcd"), preprocessing, "tiny").to(RUNTIME)


def images(count=70):
    torch.manual_seed(1)
    return [PreparedImage(torch.randint(0, 3, (3, SIZE, SIZE)) / 2, HEIGHT, WIDTH) for _ in range(count)]


def maps(model, image):
    """{layer: its values before the ReLU}, with nothing of mlcli's."""
    weights = {name: tensor.double() for name, tensor in model.network.state_dict().items()}
    x = image.prepared[None].double()
    first = F.conv2d(x, weights["first.weight"], weights["first.bias"], padding=1)
    second = F.conv2d(F.max_pool2d(first.relu(), 2), weights["second.weight"], weights["second.bias"], padding=1)
    logits = F.linear(second.relu().flatten(1), weights["last.weight"], weights["last.bias"])
    return {"conv1": first[0], "conv2": second[0], "last": logits[0, :, None, None]}


# (height and width, left and top of the first, stride) of what a unit sees
SEES = {"conv1": (3, -1, 1), "conv2": (8, -3, 2), "last": (SIZE, 0, 1)}


def brute_force(model, layer, unit, chosen, top, sample):
    """The groups of a unit by sorting everything there is."""
    field, start, stride = SEES[layer]

    def patch(number, value, position, columns):
        row, column = divmod(position, columns)
        left, right = (min(SIZE, max(0, start + stride * column + d)) for d in (0, field))
        top, bottom = (min(SIZE, max(0, start + stride * row + d)) for d in (0, field))
        return Patch(number, value, (row, column), (8 + 2 * left, 2 * top, 8 + 2 * right, 2 * bottom), (HEIGHT, WIDTH))

    extremes = {1: [], -1: []}
    for number, image in chosen:
        values = maps(model, image)[layer][unit]
        flat = values.flatten().tolist()
        for sign, pick in ((1, max), (-1, min)):
            extremes[sign].append(patch(number, pick(flat), flat.index(pick(flat)), values.shape[-1]))
    every = 1
    while len(range(0, len(chosen), every)) > sample:
        every *= 2
    groups = {}
    for sign, name in ((1, "positive"), (-1, "negative")):
        ranked = sorted(extremes[sign], key=lambda p, sign=sign: (-sign * p.value, p.image))
        groups[f"strongly_{name}"] = ranked[:top]
        sampled = {p.image for p in extremes[sign][::every]}
        ranked = [p for p in ranked if p.image in sampled and sign * p.value > 0]
        first = max(0, min(int(0.9 * len(ranked)) - top // 2, len(ranked) - top))
        groups[f"slightly_{name}"] = ranked[first : first + top]
    return groups


@pytest.mark.parametrize("batch_size, sample", [(1, 1024), (64, 1024), (7, 16), (70, 16), (20, 3)])
def test_equal_to_brute_force(model, monkeypatch, batch_size, sample):
    monkeypatch.setattr(top_patches, "SAMPLE", sample)
    chosen = [(2 * number, image) for number, image in enumerate(images())]  # as if every second were bad
    wanted = {"conv1": [5, 0, 2], "conv2": range(5), "last": [0, 3]}
    found = top_patches.search(model, wanted, iter(chosen), RUNTIME, top=4, batch_size=batch_size)
    assert list(found) == list(wanted)
    ties = 0
    for layer, units in wanted.items():
        for unit in units:
            expected = brute_force(model, layer, unit, chosen, 4, sample)
            assert found[layer].of(unit) == expected, (layer, unit)
            ties += len({p.value for p in expected["strongly_positive"]}) < 4
    assert ties > 3  # the order of the files has decided


def test_groups_of_units_that_are_always_or_never_on(model):
    found = top_patches.search(model, {"conv2": range(5)}, enumerate(images()), RUNTIME, top=3, batch_size=32)
    always, never = found["conv2"].of(1), found["conv2"].of(2)
    assert [len(always[group]) for group in GROUPS] == [3, 3, 0, 3]
    assert all(p.value > 0 for p in always["strongly_negative"])  # the least there is
    assert [len(never[group]) for group in GROUPS] == [3, 0, 3, 3]
    assert all(p.value < 0 for p in never["strongly_positive"])


def test_fewer_images_than_patches_and_none(model):
    found = top_patches.search(model, {"conv1": [1]}, enumerate(images(2)), RUNTIME, top=9, batch_size=32)
    assert {p.image for p in found["conv1"].of(1)["strongly_positive"]} == {0, 1}
    found = top_patches.search(model, {"conv1": [1]}, iter(()), RUNTIME, top=9, batch_size=32)
    assert found["conv1"].of(1) == dict.fromkeys(GROUPS, [])


def test_what_is_kept_does_not_grow_with_the_images(model, monkeypatch):
    monkeypatch.setattr(top_patches, "SAMPLE", 16)

    def kept(count):
        found = top_patches.search(model, {"conv2": range(5)}, enumerate(images(count)), RUNTIME, top=4, batch_size=8)
        tensors = [t for e in (found["conv2"].maxima, found["conv2"].minima) for t in vars(e).values()]
        # the storages, since a view keeps the whole of what it was cut from
        return sum(t.untyped_storage().nbytes() for t in tensors if isinstance(t, torch.Tensor))

    assert kept(256) == kept(64)


def test_deep_images_among_flat_ones(model):
    flat = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8)
    batch = [PreparedImage(flat, SIZE, SIZE), PreparedImage(image_io.to_unit(flat), SIZE, SIZE)]
    found = top_patches.search(model, {"conv1": [0]}, enumerate(batch), RUNTIME, top=2, batch_size=2)["conv1"].of(0)
    one, other = found["strongly_positive"]
    assert one.value == other.value and one.image == 0


def test_values_that_are_no_numbers(model):
    model.network.first.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match="tiny: answers with no number"):
        top_patches.search(model, {"conv1": [1]}, enumerate(images(2)), RUNTIME, top=1, batch_size=2)


# -- crops -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(2)
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        image_io.write(torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8), path)
    return paths


def test_crops_are_the_pixels_of_the_files(files):
    wanted = [
        Patch(number, 0.0, (0, 0), box, (20, 30))
        for number, box in [(2, (3, 4, 11, 12)), (0, (0, 0, 8, 4)), (2, (28, 10, 30, 18)), (2, (0, 0, 16, 16))]
    ]
    found = top_patches.crops(files, wanted, 8)
    for patch, crop in list(zip(wanted, found, strict=True))[:3]:
        left, top, right, bottom = patch.box
        assert torch.equal(crop, image_io.read(files[patch.image])[:, top:bottom, left:right])
    smaller = Image.open(files[2]).crop((0, 0, 16, 16)).resize((8, 8), Image.Resampling.BICUBIC)
    assert torch.equal(found[3], srgb.from_pillow(smaller))
    gray = top_patches.crops(files, wanted[:1], 8, gray=True)[0]
    assert torch.equal(gray, image_io.to_gray(found[0]).expand(3, -1, -1))


def test_files_that_go_or_change_meanwhile(files):
    wanted = [Patch(number, 0.0, (0, 0), (0, 0, 5, 5), (20, 30)) for number in (0, 1, 2, 0)]
    files[0].unlink()
    image_io.write(torch.zeros(3, 20, 31), files[1])
    gone, changed, good, again = top_patches.crops(files, wanted, 5)
    assert isinstance(gone, ImageError) and isinstance(again, ImageError) and "a.png: no such file" in str(gone)
    assert isinstance(changed, ImageError) and "b.png: has changed" in str(changed)
    assert good.shape == (3, 5, 5)


@pytest.mark.parametrize("target", [0, 3])
def test_by_relevance_to_a_class(model, target):
    """Activation times gradient, with the gradient of a linear layer and of a pooled one as torch computes it."""
    given = images(5)
    found = top_patches.search(
        model, {"conv2": [0, 1, 2], "conv1": [4]}, enumerate(given), RUNTIME, top=5, batch_size=2, target=target
    )
    weight = model.network.last.weight.detach()[target].view(5, SIZE // 2, SIZE // 2)
    for unit in (0, 1, 2):
        relevance = [maps(model, image)["conv2"][unit].relu() * weight[unit] for image in given]
        expected = sorted(((r.max().item(), i) for i, r in enumerate(relevance)), key=lambda pair: (-pair[0], pair[1]))
        strongest = found["conv2"].of(unit)["strongly_positive"]
        assert [(patch.value, patch.image) for patch in strongest] == expected
    prepared = torch.stack([image.prepared for image in given]).requires_grad_()
    first = model.network.relu1(model.network.first(prepared))
    first.retain_grad()
    model.network[2:](first)[:, target].sum().backward()
    least = (first * first.grad)[:, 4].flatten(1).min(1).values
    assert found["conv1"].of(4)["strongly_negative"][0].value == pytest.approx(least.min().item(), rel=1e-5)

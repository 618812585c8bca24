"""What becomes of an image, and what a step is shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.data.pairing import find_pairs
from mlcli.data.pairs import ImageSpec, PairSet, ResizeCrop, UnpairedSets
from mlcli.data.sources import find_images
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.imaging import image_io
from mlcli.io.packed_tensors import PackedTensors
from mlcli.runtime.random_streams import generator
from tests.flat import flat, save

GRAY = ImageSpec(1), ImageSpec(1)


def paired(root: Path, n: int = 5, height: int = 20, width: int = 24) -> Path:
    """A: a coordinate of its own at each pixel; B: 255 less."""
    for number in range(n):
        a = (np.arange(height * width).reshape(height, width) * 7 + number * 31) % 256
        save(root / "A" / f"{number}.png", a)
        save(root / "B" / f"{number}.png", 255 - a)
    return root


# --------------------------------------------------------------------------------- what becomes of an image


def test_signals_and_back(tmp_path):
    path = save(tmp_path / "map.png", [[0, 1], [2, 3]])
    palette = Image.open(path).convert("P")
    palette.putdata([0, 1, 2, 1])
    palette.putpalette([10, 200, 30, 0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "palette.png")
    spec = ImageSpec(labels=4)
    one_hot = spec.normalized_input(spec.read(path)[None])
    assert spec.width == 4 and torch.equal(one_hot[0, :, 1, 0], torch.tensor([0.0, 0, 1, 0]))
    assert torch.equal(one_hot[0].argmax(0), torch.tensor([[0, 1], [2, 3]])) and one_hot.sum() == 4
    assert torch.equal(spec.to_images(one_hot)[0, 0], torch.tensor([[0, 1 / 3], [2 / 3, 1]]))
    assert spec.read(tmp_path / "palette.png").flatten().tolist() == [0, 1, 2, 1]
    with pytest.raises(ImageError, match="holds the values 0, 1, 2, 3, and a map of 3 classes"):
        ImageSpec(labels=3).read(path)
    save(tmp_path / "color.png", np.zeros((2, 2, 3)))
    with pytest.raises(ImageError, match="mode RGB, not a map"):
        spec.read(tmp_path / "color.png")

    color = ImageSpec()
    assert color.width == 3 and color.read(path).shape == (3, 2, 2) and ImageSpec(1).read(path).shape == (1, 2, 2)
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert torch.allclose(color.normalized_input(image).flatten(), torch.tensor([-1, -0.6, 1]))
    assert torch.allclose(color.to_images(color.normalized_input(image)), image / 255, atol=1e-6)
    for wrong in (dict(channels=2), dict(labels=257)):
        with pytest.raises(UsageError):
            ImageSpec(**wrong)


def test_deep_sources_keep_their_depth(tmp_path):
    for side in "AB":
        (tmp_path / side).mkdir()
        Image.fromarray(np.array([[1, 65535]], np.uint16)).save(tmp_path / side / "1.png")
    data = PairSet.load(find_pairs(tmp_path), GRAY, ResizeCrop(mode="none", multiple=1))
    a, _ = data.batch(torch.tensor([0]))
    assert a.is_floating_point() and torch.allclose(a.flatten(), torch.tensor([1 / 65535, 1]))


def test_maps_are_resized_to_classes_that_they_hold():
    numbers = torch.tensor([[0, 200], [200, 0]], dtype=torch.uint8)[None]
    assert set(ImageSpec(labels=201).resize(numbers, (7, 5)).unique().tolist()) == {0, 200}
    assert len(ImageSpec(1).resize(numbers, (7, 5)).unique()) > 2


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("resize-and-crop", (40, 60)), ("crop", (50, 100)), ("scale-width", (32, 60)),
        ("scale-width-and-crop", (32, 64)), ("none", (48, 100)),
    ],
)  # fmt: skip
def test_sizes(mode, expected):
    resize_crop = ResizeCrop(size=(32, 48), load=(40, 60), mode=mode)
    assert resize_crop.loaded(50, 100) == expected
    if mode == "crop":  # an image smaller than the window is enlarged to hold it
        assert resize_crop.loaded(10, 60) == (32, 192) and resize_crop.loaded(64, 24) == (128, 48)


def test_frames_that_cannot_be():
    with pytest.raises(UsageError, match="take resize-and-crop, crop"):
        ResizeCrop(mode="stretch")
    with pytest.raises(UsageError, match="40 x 40 hold no window of 32 x 48"):
        ResizeCrop(size=(48, 32), load=(40, 40))
    still = ResizeCrop().still()
    assert still.load == (256, 256) and not still.flip


def test_every_window_and_both_flips_come_up_and_are_windows():
    resize_crop = ResizeCrop(size=(3, 4), load=(5, 6))
    image = torch.arange(30, dtype=torch.uint8).view(1, 5, 6)
    windows = {
        tuple(window.flatten().tolist()): (top, left, flip)
        for top in range(3) for left in range(3) for flip in (False, True)
        for window in [image[0, top : top + 3, left : left + 4]]
        for window in [window.flip(1) if flip else window]
    }  # fmt: skip
    drawn = torch.rand(3, 4000, generator=generator(1))
    counts = {}
    for window in resize_crop.cut([image] * 4000, drawn):
        position = windows[tuple(window.flatten().tolist())]
        counts[position] = counts.get(position, 0) + 1
    assert len(counts) == 18 and min(counts.values()) > 150 and max(counts.values()) < 300  # 222 on average
    middle = resize_crop.cut([image], None)
    assert torch.equal(middle[0, 0], image[0, 1:4, 1:5])


# --------------------------------------------------------------------------------------------- loaded data


@pytest.mark.parametrize("where", ["memory", "disk", "files"])
def test_a_and_b_are_cut_and_flipped_in_the_same_way(tmp_path, where, monkeypatch):
    budget = {"memory": 1 << 30, "disk": 1000, "files": 1000}[where]  # of bytes; the first pair has 960
    if where == "files":
        monkeypatch.setattr(PackedTensors, "opened", lambda: None)
    data = PairSet.load(
        find_pairs(paired(tmp_path)), GRAY, ResizeCrop((8, 12), mode="crop"), budget_bytes=budget, workers=2
    )
    kinds = {"memory": list, "disk": PackedTensors, "files": type(None)}
    assert type(data.dataset.held) is kinds[where]
    indices = torch.tensor([4, 0, 2, 2, 1, 3])
    shown = set()
    for step in range(4):
        drawn = data.draw(6, generator(0, 3, step))
        a, b = data.batch(indices, drawn)
        assert a.shape == b.shape == (6, 1, 8, 12) and a.dtype == torch.uint8
        assert torch.equal(b, 255 - a)
        assert torch.equal(a, data.batch(indices, data.draw(6, generator(0, 3, step)))[0])
        # A part of the batch is what a process of several has
        assert torch.equal(a[2:4], data.batch(indices[2:4], drawn[:, 2:4])[0])
        shown |= {tuple(x.flatten().tolist()) for x in a}
    assert len(shown) > 20  # of 24, each a window of its own


def test_the_default_frame_is_that_of_the_paper(tmp_path):
    paired(tmp_path, 1, 30, 50)
    data = PairSet.load(find_pairs(tmp_path), (ImageSpec(), ImageSpec(1)), ResizeCrop())
    assert data.dataset.held[0][0].shape == (3, 286, 286)
    a, b = data.batch(torch.tensor([0, 0]), data.draw(2, generator(0)))
    assert a.shape == (2, 3, 256, 256) and b.shape == (2, 1, 256, 256)
    whole = PairSet.load(find_pairs(tmp_path), (ImageSpec(), ImageSpec(1)), ResizeCrop().still())
    expected = ImageSpec(1).resize(image_io.to_gray(image_io.read(tmp_path / "B" / "0.png")), (256, 256))
    assert torch.equal(whole.batch(torch.tensor([0]))[1][0], expected)


def test_rectangles(tmp_path):
    data = PairSet.load(find_pairs(paired(tmp_path)), GRAY, ResizeCrop((16, 32), (18, 36)))
    assert data.batch(torch.arange(2), data.draw(2, generator(0)))[0].shape == (2, 1, 16, 32)


def test_bad_pairs_are_left_out_and_named(tmp_path):
    paired(tmp_path)
    (tmp_path / "A" / "1.png").write_bytes(b"")
    (tmp_path / "B" / "3.png").write_bytes(b"text")
    flat(tmp_path / "B" / "4.png", 0, (9, 9))
    pairing = find_pairs(tmp_path)
    calls = []
    data = PairSet.load(
        pairing, GRAY, ResizeCrop((8, 8), mode="crop"), progress=lambda done, total: calls.append((done, total))
    )
    assert [Path(a).name for a, _ in data.dataset.items] == ["0.png", "2.png"] and calls[-1] == (5, 5)
    told = [str(problem) for problem in data.problems]
    assert str(tmp_path / "A" / "1.png") in told[0] and str(tmp_path / "B" / "3.png") in told[1]
    assert "24 x 20" in told[2] and "9 x 9" in told[2] and "one size" in told[2]
    # Brought to one size, the sizes need not agree
    assert len(PairSet.load(pairing, GRAY, ResizeCrop((8, 8), (9, 9)))) == 3
    for number in range(5):
        (tmp_path / "A" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match="no pair can be read.*and 1 more"):
        PairSet.load(pairing, GRAY, ResizeCrop())


def test_a_file_that_has_gone_bad_since(tmp_path, monkeypatch):
    monkeypatch.setattr(PackedTensors, "opened", lambda: None)
    data = PairSet.load(find_pairs(paired(tmp_path)), GRAY, ResizeCrop((8, 8), mode="crop"), budget_bytes=0)
    (tmp_path / "B" / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match="2.png.*whole when this began"):
        data.batch(torch.tensor([1, 2]))


def test_several_sizes_need_batches_of_one(tmp_path):
    for side in "AB":
        flat(tmp_path / side / "1.png", 0, (8, 12))
        flat(tmp_path / side / "2.png", 0, (13, 8))
    data = PairSet.load(find_pairs(tmp_path), GRAY, ResizeCrop(mode="none"))
    assert data.batch(torch.tensor([1]))[0].shape == (1, 1, 12, 8)
    with pytest.raises(DataError, match="with none, take batches of one"):
        data.batch(torch.tensor([0, 1]))


def test_unpaired_sets(tmp_path):
    for number in range(3):
        flat(tmp_path / "A" / f"{number}.png", number, (8, 8))
    for number in range(5):
        flat(tmp_path / "B" / f"{number}.png", 100 + number, (9, 12))
    (tmp_path / "A" / "broken.png").write_bytes(b"")
    a, b = (find_images([tmp_path / side]).paths for side in "AB")
    data = UnpairedSets.load(a, b, GRAY, ResizeCrop((4, 4), mode="crop"))
    assert len(data) == 5 and len(data.problems) == 1
    drawn = data.draw(500, generator(0, 3, 7))
    indices = torch.arange(500) % 5
    x, y = data.batch(indices, drawn)
    assert x[:, 0, 0, 0].tolist() == (indices % 3).tolist()  # A in the order asked for
    counts = torch.bincount(y[:, 0, 0, 0].long() - 100)  # B at random
    assert len(counts) == 5 and counts.min() > 70
    first = data.names(indices[:1], drawn[:, :1])
    assert first == [str(a[0]), str(b[y[0, 0, 0, 0].item() - 100])]
    x, y = data.batch(torch.arange(5))
    assert x[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1] and y[:, 0, 0, 0].tolist() == [100, 101, 102, 103, 104]
    with pytest.raises(DataError, match="no image of B"):
        UnpairedSets.load(a, [tmp_path / "A" / "broken.png"], GRAY, ResizeCrop())


def test_windows_of_unpaired_images_are_independent(tmp_path):
    path = save(tmp_path / "1.png", np.arange(100).reshape(10, 10))
    data = UnpairedSets.load([path], [path], GRAY, ResizeCrop((2, 2), mode="crop"))
    a, b = data.batch(torch.zeros(200, dtype=torch.long), data.draw(200, generator(0)))
    assert (a == b).flatten(1).all(1).float().mean() < 0.05


@pytest.mark.parametrize(
    "values, labels, words",
    [
        ([0, 255], 2, "holds the values 0, 255, and a map of 2 classes holds 0 to 1; number the classes from 0 on, "
                      "here 255 to 1, and save the map as PNG"),
        ([0, 128, 255], 3, "number the classes from 0 on, here 128 to 1, 255 to 2,"),
        ([1, 2], 2, "number the classes from 0 on, here 1 to 0, 2 to 1,"),
        ([0, 1, 2], 2, "give as many classes as there are"),
        (list(range(0, 40, 2)), 12, "0, 2, 4, 6, 8, 10, 12, 14 and 12 more, and a map of 12 classes"),
    ],
)  # fmt: skip
def test_a_map_of_other_values_is_told_how_to_be_numbered(values, labels, words, tmp_path):
    path = save(tmp_path / "map.png", [values])
    with pytest.raises(ImageError) as raised:
        ImageSpec(labels=labels).read(path)
    assert words in str(raised.value)
    assert ("more classes" in words or "as many classes" in str(raised.value)) == (len(values) > labels)

"""Images for training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcli.data.image_dataset import ImageDataset
from mlcli.data.sources import find_images
from mlcli.errors import DataError
from mlcli.imaging import image_io
from mlcli.io import packed_tensors
from tests.flat import flat


@pytest.fixture
def mixed(tmp_path):
    paths = [flat(tmp_path / f"{level}.png", level, size) for level, size in
             [(10, (8, 6)), (20, (40, 30)), (30, (9, 50)), (40, (16, 16))]]  # fmt: skip
    deep = np.full((20, 20), 32768, np.uint16)  # 127.5 of 255: rounded to a level
    Image.fromarray(deep).save(tmp_path / "deep.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    return [*paths[:2], tmp_path / "bad.png", *paths[2:], tmp_path / "none.png", tmp_path / "deep.png"]


@pytest.fixture
def full_disk(monkeypatch):
    monkeypatch.setattr(packed_tensors, "ROOM", 0.0)


@pytest.mark.parametrize("where", ["memory", "disk", "files"])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_dataset(mixed, where, channels, request):
    if where == "files":
        request.getfixturevalue("full_disk")
    budget = 4 << 30 if where == "memory" else 0
    calls = []
    data = ImageDataset.load(
        mixed, [0, 1, 2, 3, 4, 5, 6], size=16, channels=channels, budget_bytes=budget, workers=2,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert len(data) == 5 and data.labels.tolist() == [0, 1, 3, 4, 6] and data.labels.dtype == torch.int64
    assert [path.name for path in data.paths] == ["10.png", "20.png", "30.png", "40.png", "deep.png"]
    assert [str(error).split(": ")[0] for error in data.problems] == [str(mixed[2]), str(mixed[5])]
    assert calls == [(done, 7) for done in range(1, 8)]
    assert (data.pixels is not None, data.packed is not None) == (where == "memory", where == "disk")
    batch = data.batch(torch.tensor([3, 0, 0, 4]))
    assert batch.shape == (4, channels, 16, 16) and batch.dtype == torch.uint8
    assert [image.unique().tolist() for image in batch] == [[40], [10], [10], [128]]


def test_in_memory_on_disk_and_on_demand_are_equal(request):
    photos = find_images([Path(__file__).parents[2] / "samples" / "photos"]).paths[:4]
    held = ImageDataset.load(photos, size=64)
    packed = ImageDataset.load(photos, size=64, budget_bytes=4 * 3 * 64 * 64 - 1)
    request.getfixturevalue("full_disk")
    asked = ImageDataset.load(photos, size=64, budget_bytes=4 * 3 * 64 * 64 - 1)
    assert held.labels is None and held.pixels is not None and packed.packed is not None
    assert asked.pixels is None and asked.packed is None
    assert len({each.digest() for each in (held, packed, asked)}) == 1
    for each in (packed, asked):
        assert torch.equal(each.batch(torch.tensor([3, 0, 1])), held.batch(torch.tensor([3, 0, 1])))
    assert torch.equal(held.batch(torch.tensor([2]))[0], image_io.fit(image_io.read(photos[2]), 64))
    assert ImageDataset.load(photos[1:], size=64, budget_bytes=0).digest() != held.digest()


def test_image_dataset_of_nothing_and_gone_bad(tmp_path, full_disk):
    assert len(ImageDataset.load([], size=8)) == 0
    path = flat(tmp_path / "a.png")
    data = ImageDataset.load([path], size=8, budget_bytes=0)
    path.write_bytes(b"gone")
    with pytest.raises(DataError, match="a.png"):
        data.batch(torch.tensor([0]))
    with pytest.raises(ValueError):
        ImageDataset.load([path], [1, 2], size=8)
    with pytest.raises(ValueError):
        ImageDataset.load([path], size=8, channels=2)

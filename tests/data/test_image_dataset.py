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
from tests.flat import flat


@pytest.fixture
def mixed(tmp_path):
    paths = [flat(tmp_path / f"{level}.png", level, size) for level, size in
             [(10, (8, 6)), (20, (40, 30)), (30, (9, 50)), (40, (16, 16))]]  # fmt: skip
    deep = np.full((20, 20), 32768, np.uint16)  # 127.5 of 255: rounded to a level
    Image.fromarray(deep).save(tmp_path / "deep.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    return [*paths[:2], tmp_path / "bad.png", *paths[2:], tmp_path / "none.png", tmp_path / "deep.png"]


@pytest.mark.parametrize("budget", [4 << 30, 0])
@pytest.mark.parametrize("channels", [1, 3])
def test_image_dataset(mixed, budget, channels):
    calls = []
    data = ImageDataset.load(
        mixed, [0, 1, 2, 3, 4, 5, 6], size=16, channels=channels, budget_bytes=budget, workers=2,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert len(data) == 5 and data.labels.tolist() == [0, 1, 3, 4, 6] and data.labels.dtype == torch.int64
    assert [path.name for path in data.paths] == ["10.png", "20.png", "30.png", "40.png", "deep.png"]
    assert [str(error).split(": ")[0] for error in data.problems] == [str(mixed[2]), str(mixed[5])]
    assert calls == [(done, 7) for done in range(1, 8)]
    assert (data.pixels is None) == (budget == 0)
    batch = data.batch(torch.tensor([3, 0, 0, 4]))
    assert batch.shape == (4, channels, 16, 16) and batch.dtype == torch.uint8
    assert [image.unique().tolist() for image in batch] == [[40], [10], [10], [128]]


def test_image_dataset_in_memory_equals_on_demand():
    photos = find_images([Path(__file__).parents[2] / "samples" / "photos"]).paths[:4]
    held = ImageDataset.load(photos, size=64)
    asked = ImageDataset.load(photos, size=64, budget_bytes=4 * 3 * 64 * 64 - 1)
    assert held.labels is None and held.pixels is not None and asked.pixels is None
    assert torch.equal(held.batch(torch.arange(4)), asked.batch(torch.arange(4)))
    assert torch.equal(held.batch(torch.tensor([2]))[0], image_io.fit(image_io.read(photos[2]), 64))


def test_image_dataset_of_nothing_and_gone_bad(tmp_path):
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

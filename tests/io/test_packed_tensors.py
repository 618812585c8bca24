"""Tensors in a file on disk."""

import errno
import os

import pytest
import torch

from mlcli.io.packed_tensors import PackedTensors


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mlcli"


def test_items_of_several_types_and_shapes_come_back_in_any_order(cache):
    random = torch.Generator().manual_seed(0)
    items = [
        (torch.randint(0, 256, (3, 5 + number % 3, 7), dtype=torch.uint8, generator=random),)
        + ((torch.rand(2, number % 3 + 1, generator=random), torch.tensor([number])) if number % 2 else ())
        for number in range(20)
    ]
    packed = PackedTensors.opened()
    for item in items:
        assert packed.append(item) is packed
    packed = packed.mapped()
    assert len(packed) == 20 and packed.bytes >= sum(tensor.nbytes for item in items for tensor in item)
    for number in (19, 0, 7, 7, 8, 1):
        found = packed[number]
        assert len(found) == len(items[number])
        assert all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(found, items[number], strict=True))


def test_a_transposed_tensor_is_stored_as_it_reads(cache):
    tensor = torch.arange(6).view(2, 3).T
    assert torch.equal(PackedTensors.opened().append([tensor]).mapped()[0][0], tensor)


def test_nothing_is_seen_in_the_cache_and_nothing_is_left(cache):
    packed = PackedTensors.opened().append([torch.ones(1000)]).mapped()
    assert packed.folder == cache and not list(cache.iterdir())
    assert packed[0][0].sum() == 1000
    assert len(PackedTensors.opened().mapped()) == 0


def test_no_room(cache):
    assert PackedTensors.opened(1 << 60) is None
    cache.rmdir()
    cache.write_text("no folder")
    assert PackedTensors.opened() is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_disk_that_becomes_full(cache):
    packed = PackedTensors.opened()
    packed._file = open("/dev/full", "wb", buffering=0)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        packed._file.write(b"1")
    assert packed.append([torch.ones(3)]) is None

"""Domains in memory: read with masks, an order that names do not change, subsets by the seed, pairs of two of them."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlcli.data.domains import (
    Domain,
    Unpaired,
    masks_beside,
    read_masked,
    read_unmasked,
    segmented,
    unsegmented,
    with_masks,
)
from mlcli.errors import DataError
from mlcli.runtime.random_streams import generator
from tests.archives import contents, write_tar
from tests.flat import save


def some(count: int = 12, seed: int = 0) -> Domain:
    images = torch.randint(256, (count, 1, 4, 4), generator=generator(seed)).to(torch.uint8)
    return Domain(images, [Path(f"{number}.png") for number in range(count)], torch.arange(count))


def test_images_and_masks_in_an_archive_are_those_on_disk(tmp_path):
    for name in ("images/1.png", "masks/1.png"):
        save(tmp_path / "set" / name, np.zeros((8, 8)))
    file = write_tar(tmp_path / "set.tar", contents(tmp_path / "set"))
    assert masks_beside(file).paths == [(file / "images/1.png", file / "masks/1.png")]
    assert len(read_masked(masks_beside(file), 8).items) == 1
    with pytest.raises(DataError, match="no images/ in it"):
        masks_beside(file / "images")


def test_the_order_is_that_of_the_images_whatever_their_names():
    whole = some()
    mixed = torch.randperm(12, generator=generator(1))
    renamed = Domain(whole.images[mixed], [Path(f"other/{number}.png") for number in range(12)], whole.labels[mixed])
    assert not torch.equal(whole.images, renamed.images)
    ours, theirs = whole.in_order(), renamed.in_order()
    assert torch.equal(ours.images, theirs.images) and torch.equal(ours.labels, theirs.labels)
    assert ours.digest() == theirs.digest() != whole.digest()
    index = int(ours.labels[0])
    assert torch.equal(ours.images[0], whole.images[index]) and ours.names(torch.tensor([0])) == [f"{index}.png"]


def test_subsets_go_by_the_seed_alone():
    whole = some()
    first, same, other = whole.subset(5, 1), replace(whole, labels=None).subset(5, 1), whole.subset(5, 2)
    assert torch.equal(first.images, same.images) and same.labels is None
    assert not torch.equal(first.labels, other.labels) and len(first.labels.unique()) == 5
    assert whole.subset(None, 1) is whole and whole.subset(99, 1) is whole


def test_a_fraction_is_held_out_by_the_seed():
    whole = some()
    rest, held = whole.split(0.25, 1)
    assert len(held) == 3 and sorted(rest.labels.tolist() + held.labels.tolist()) == list(range(12))
    assert all(torch.equal(part.images, whole.images[part.labels]) for part in (rest, held))
    assert torch.equal(held.labels, whole.split(0.25, 1)[1].labels)
    assert any(not torch.equal(held.labels, whole.split(0.25, seed)[1].labels) for seed in (2, 3))
    for fraction in (0.01, 0.99):
        with pytest.raises(DataError, match="hold out another fraction"):
            whole.split(fraction, 1)


def test_an_index_shows_the_same_image_of_a_and_a_drawn_one_of_b():
    a, b = some(4), some(9, 1)
    both = Unpaired(a, b)
    indices, drawn = torch.arange(9), torch.full((1, 9), 0.999, dtype=torch.float64)
    of_a, of_b = both.batch(indices, drawn)
    assert len(both) == 9 and torch.equal(of_a, a.images[indices % 4])
    assert all(torch.equal(each, b.images[8]) for each in of_b)
    assert both.names(indices, drawn)[:5] == ["0.png", "1.png", "2.png", "3.png", "0.png"]
    assert torch.equal(both.batch(indices)[1], b.images)


def test_every_image_is_mapped():
    inverted = some().mapped(lambda images: 255 - images, batch_size=5)
    assert torch.equal(inverted.images, 255 - some().images) and torch.equal(inverted.labels, some().labels)


def test_images_with_masks_and_without(tmp_path):
    for number in range(3):
        save(tmp_path / f"images/{number}.png", np.full((8, 8, 3), 50 * number))
        save(tmp_path / f"masks/{number}.png", np.full((8, 8), number))
    (tmp_path / "images/broken.png").write_bytes(b"")
    pairing = masks_beside(tmp_path)
    assert len(pairing.paths) == 3 and "broken.png" in str(pairing.problems)
    masked, classes = segmented(tmp_path, read_masked(pairing, 4), None)
    assert classes == ("background", "class 1", "class 2")
    assert masked.labels[:, 0, 0].tolist() == [0, 1, 2] and masked.labels.shape == (3, 4, 4)
    assert masked.images[:, 0, 0, 0].tolist() == [0, 50, 100] and masked.images.dtype == torch.uint8
    dataset = read_unmasked(sorted((tmp_path / "images").iterdir()), 4)
    bare, sizes = unsegmented(tmp_path, dataset)
    assert torch.equal(bare.images, masked.images) and list(bare.paths) == list(masked.paths)
    assert bare.labels is None and "broken.png" in str(dataset.problems) and sizes[bare.paths[0]] == [8, 8]
    with pytest.raises(DataError, match="hold class 2, the source knows 0 to 1"):
        segmented(tmp_path, read_masked(pairing, 4), classes[:2])
    with pytest.raises(DataError, match="no images/ in it"):
        masks_beside(tmp_path / "masks")
    with pytest.raises(DataError, match="no readable image"):
        unsegmented(tmp_path, read_unmasked([tmp_path / "images/broken.png"], 4))


def test_masks_are_added_to_images_that_are_read_already(tmp_path):
    """As if images and masks had been read together; an image without a mask that fits is left out."""
    for number in range(4):
        save(tmp_path / f"images/{number}.png", np.full((8, 6, 3), 50 * number))
        save(tmp_path / f"masks/{number}.png", np.full((8, 6), number % 2))
    save(tmp_path / "masks/1.png", np.full((6, 8), 1))
    (tmp_path / "masks/2.png").unlink()
    pairing = masks_beside(tmp_path)
    together, _ = segmented(tmp_path, read_masked(pairing, 4), None)
    bare, sizes = unsegmented(tmp_path, read_unmasked(sorted((tmp_path / "images").iterdir(), reverse=True), 4))
    shutil.rmtree(tmp_path / "images")
    known, problems = with_masks(bare, pairing, sizes, ("background", "thing"))
    assert [path.name for path in known.paths] == ["0.png", "3.png"] and list(known.paths) == list(together.paths)
    assert torch.equal(known.images, together.images) and torch.equal(known.labels, together.labels)
    (problem,) = problems
    assert "1.png: is 8 x 6 pixels, its image 6 x 8; left out" in str(problem)
    with pytest.raises(DataError, match="hold class 1, the source knows 0 to 0"):
        with_masks(bare, pairing, sizes, ("background",))
